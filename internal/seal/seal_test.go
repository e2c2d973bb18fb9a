package seal_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

func newKey() []byte {
	k := make([]byte, seal.KeySize)
	_, _ = rand.Read(k)
	return k
}

func sealer(t testing.TB, masters ...[]byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantOpen(t testing.TB, s *seal.Sealer, sealed []byte, purpose, want string) {
	t.Helper()
	if got, err := s.Open(sealed, purpose); err != nil || string(got) != want {
		t.Errorf("open: got %q, %v, want %q", got, err, want)
	}
}

func wantShut(t testing.TB, what string, s *seal.Sealer, sealed []byte, purpose string) {
	t.Helper()
	if got, err := s.Open(sealed, purpose); !errors.Is(err, seal.ErrOpen) || got != nil {
		t.Errorf("%s: got %q, %v, want ErrOpen", what, got, err)
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	s := sealer(t, newKey())
	for _, plain := range []string{"", "x", strings.Repeat("long ", 10000), "\x00\xff"} {
		a, b := s.Seal([]byte(plain), "p"), s.Seal([]byte(plain), "p")
		wantOpen(t, s, a, "p", plain)
		if bytes.Equal(a, b) {
			t.Errorf("sealing %.10q twice gave the same bytes: equal secrets would show", plain)
		}
		if plain != "" && len(plain) > 4 && bytes.Contains(a, []byte(plain)) {
			t.Errorf("%.10q can be read in what was sealed", plain)
		}
	}
}

// A writer in the database must not be able to move a secret to another row or use.
func TestSecretMovedToAnotherPurpose(t *testing.T) {
	t.Parallel()
	s := sealer(t, newKey())
	sealed := s.Seal([]byte("secret"), "totp:alice")
	for _, purpose := range []string{"totp:mallory", "", "totp:alic", "totp:alicee", "TOTP:alice"} {
		wantShut(t, "purpose "+purpose, s, sealed, purpose)
	}
	wantOpen(t, s, sealed, "totp:alice", "secret")
}

func TestMasterKeyRotation(t *testing.T) {
	t.Parallel()
	oldKey, newerKey := newKey(), newKey()
	before := sealer(t, oldKey)
	during := sealer(t, newerKey, oldKey)
	after := sealer(t, newerKey)

	early := before.Seal([]byte("early"), "p")
	wantOpen(t, during, early, "p", "early")
	wantShut(t, "sealed under a key that was dropped", after, early, "p")

	late := during.Seal([]byte("late"), "p") // the first key seals
	wantOpen(t, after, late, "p", "late")
	wantShut(t, "sealed under a key not known yet", before, late, "p")
	wantShut(t, "sealed under a stranger's key", sealer(t, newKey()), late, "p")
}

func TestTamperedSecret(t *testing.T) {
	t.Parallel()
	s := sealer(t, newKey(), newKey())
	sealed := s.Seal([]byte("secret"), "p")
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			wantShut(t, fmt.Sprintf("byte %d bit %d flipped", i, bit), s, changed, "p")
		}
		wantShut(t, fmt.Sprintf("cut to %d bytes", i), s, sealed[:i], "p")
	}
	wantShut(t, "one byte more", s, append(bytes.Clone(sealed), 0), "p")
	wantShut(t, "nothing", s, nil, "p")
	wantOpen(t, s, sealed, "p", "secret")
}

func TestNewRefusesWrongKeys(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string][][]byte{
		"none":           {},
		"empty":          {{}},
		"short":          {make([]byte, 16)},
		"long":           {make([]byte, 33)},
		"second is none": {newKey(), nil},
	} {
		if _, err := seal.New(masters...); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestSecretIsStable(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		master := newKey()
		secret := func(s *seal.Sealer, name string) []byte {
			t.Helper()
			got, err := s.Secret(t.Context(), d, name)
			if err != nil || len(got) != seal.KeySize {
				t.Fatalf("secret: got %d bytes, %v", len(got), err)
			}
			return got
		}
		// Replicas that start together and ask for the first time at once agree.
		var mu sync.Mutex
		var wg sync.WaitGroup
		seen := map[string]bool{}
		for range 20 {
			s := sealer(t, master)
			wg.Go(func() {
				got, err := s.Secret(t.Context(), d, "index")
				if err != nil {
					t.Errorf("secret: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[string(got)] = true
			})
		}
		wg.Wait()
		if len(seen) != 1 {
			t.Fatalf("concurrent first use: got %d secrets, want 1", len(seen))
		}
		first := secret(sealer(t, master), "index")
		if !seen[string(first)] {
			t.Error("a later use got another secret")
		}
		if other := secret(sealer(t, master), "other"); bytes.Equal(first, other) {
			t.Error("two names have one secret")
		}
		// It outlives a change of the master key, as long as the old one is known.
		if got := secret(sealer(t, newKey(), master), "index"); !bytes.Equal(got, first) {
			t.Error("secret changed with the master key")
		}
		if _, err := sealer(t, newKey()).Secret(t.Context(), d, "index"); !errors.Is(err, seal.ErrOpen) || !strings.Contains(err.Error(), "master key") {
			t.Errorf("lost master key: got %v, want ErrOpen that speaks of the master key", err)
		}
		// Two secrets swapped in the database do not open.
		if _, err := d.Exec(t.Context(), `UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'other') WHERE name = 'index'`); err != nil {
			t.Fatal(err)
		}
		if _, err := sealer(t, master).Secret(t.Context(), d, "index"); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("swapped secret: got %v, want ErrOpen", err)
		}
	})
}

func TestSecretWithoutDatabase(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	_ = d.Close()
	if _, err := sealer(t, newKey()).Secret(t.Context(), d, "x"); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestMACTellsPartsApart(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"2:ab"}, {"1:a1:b"}} {
		mac := string(seal.MAC([]byte("k"), parts...))
		if other, taken := seen[mac]; taken {
			t.Errorf("%q and %s have one MAC", parts, other)
		}
		seen[mac] = fmt.Sprintf("%q", parts)
		if mac == string(seal.MAC([]byte("l"), parts...)) {
			t.Errorf("%q: the key does not matter", parts)
		}
	}
}

func TestSealerIsNotLogged(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "seal", sealer(t, newKey()))
	if got := out.String(); !strings.Contains(got, "seal=seal.Sealer") {
		t.Errorf("log line: %s", got)
	}
}

// Nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	s := sealer(f, bytes.Repeat([]byte{7}, seal.KeySize))
	// Sealed once and for all, because the processes of a fuzz run must agree on it.
	sealed, err := hex.DecodeString("017487e2d9f230b8e63a2b335e3c517bb776021b05d6ce7d285ae527be8cf284b21e31d6e194df")
	if err != nil {
		f.Fatal(err)
	}
	wantOpen(f, s, sealed, "p", "secret")
	f.Add(sealed, "p")
	f.Add(sealed[:20], "p")
	f.Add([]byte{1}, "")
	f.Fuzz(func(t *testing.T, data []byte, purpose string) {
		got, err := s.Open(data, purpose)
		if err == nil && (!bytes.Equal(data, sealed) || purpose != "p") {
			t.Errorf("opened %x for %q: %q", data, purpose, got)
		}
		if err != nil && !errors.Is(err, seal.ErrOpen) {
			t.Errorf("got %v, want ErrOpen", err)
		}
		again := s.Seal(data, purpose)
		if got, err := s.Open(again, purpose); err != nil || !bytes.Equal(got, data) {
			t.Errorf("sealed %x for %q, opened %x, %v", data, purpose, got, err)
		}
	})
}
