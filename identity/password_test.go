package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestHashAndVerify(t *testing.T) {
	t.Parallel()
	h := newHasher(testCost, 1)
	phc, err := h.hash(t.Context(), "Grüße aus Åland")
	wantNil(t, "hash", err)
	for _, c := range []struct {
		name, password string
		want           bool
	}{
		{"same", "Grüße aus Åland", true},
		{"typed in decomposed form", "Gru\u0308ße aus A\u030aland", true},
		{"other", "Grüße aus Aland", false},
		{"empty", "", false},
	} {
		ok, outdated, err := h.verify(t.Context(), phc, c.password)
		if ok != c.want || outdated || err != nil {
			t.Errorf("%s: got %v, %v, %v; want %v, false, nil", c.name, ok, outdated, err, c.want)
		}
	}
	if again, _ := h.hash(t.Context(), "Grüße aus Åland"); again == phc {
		t.Error("two hashes of one password are equal: no salt")
	}
	if _, outdated, _ := newHasher(argonCost{64, 1, 1}, 1).verify(t.Context(), phc, "x"); !outdated {
		t.Error("a hash at another cost is not outdated")
	}
}

func TestPHCBomb(t *testing.T) {
	t.Parallel()
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
	if _, err := parsePHC("$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key); err != nil {
		t.Fatalf("a good hash is refused: %v", err)
	}
	for _, s := range []string{
		"", "$", "plain", "$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65537,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=99,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=1,p=5$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=1,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=064,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key + "$x",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "=$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key + "\n",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 1<<20),
	} {
		if p, err := parsePHC(s); err == nil {
			t.Errorf("parsePHC(%.80q) = %+v, want an error", s, p.cost)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
	f.Add("$argon2id$v=19$m=064,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Errorf("%q reads as %q", s, p.String())
		}
		if p.cost.memory > 64*1024 || p.cost.time > 16 || p.cost.threads > 4 || len(p.salt) > 64 || len(p.key) > 64 {
			t.Errorf("%q passed with cost %+v", s, p.cost)
		}
	})
}

func TestHashPoolFull(t *testing.T) {
	t.Parallel()
	h := newHasher(testCost, 1)
	for range cap(h.admit) {
		wantNil(t, "enter", h.enter())
	}
	_, err := h.hash(t.Context(), "x")
	wantErr(t, "one more than the queue takes", err, ErrBusy)
	h.leave()
	_, err = h.hash(t.Context(), "x")
	wantNil(t, "after one has left", err)
}

func TestHashWaitEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	h := newHasher(testCost, 1)
	h.work <- struct{}{} // the only worker is taken
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := h.hash(ctx, "x")
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	<-h.work
	if len(h.admit) != 0 {
		t.Errorf("%d places in the queue are lost", len(h.admit))
	}
}
