package oauth

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// "gatehouse user disable" is a process of its own. Beside a server that keeps its cache in memory its marks reach SQL alone.
func TestRevocationByAnotherProcessIsSeen(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		a := b.tokens(t, c)
		if !h.introspectToken(t, c, a.str("access_token")) {
			t.Fatal("a fresh token must be active")
		}
		code := b.code(t, c)
		elsewhere := OpenRevocations(h.DB, h.Now)
		other := OpenGrants(GrantsConfig{DB: h.DB, Audit: h.Audit, Revocations: elsewhere, Key: h.RefreshKey, Now: h.Now})
		if err := other.EndUser(b.t(), b.user.ID, ""); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(readEvery)
		if h.introspectToken(t, c, a.str("access_token")) {
			t.Error("introspection: the token of a person who was ended elsewhere is active")
		}
		if got := h.userinfoAnswer(t, a.str("access_token")); got.status != http.StatusUnauthorized {
			t.Errorf("userinfo: got %d, want 401", got.status)
		}
		wantError(t, h.exchangeCode(t, c, code), http.StatusBadRequest, "invalid_grant")
	})
}

// A refresh rotates the grant, then everything of the person ends, then the refresh signs its access token, later than
// the mark on the person: the moment of the grant counts, not that of the token.
func TestRefreshRacingWithTheEndOfEverything(t *testing.T) {
	t.Parallel()
	ends := map[string]func(h *harness, b *browser, c registered) error{
		"person":  func(h *harness, b *browser, _ registered) error { return h.Grants.EndUser(b.t(), b.user.ID, "") },
		"consent": func(h *harness, b *browser, c registered) error { return h.Withdraw(b.t(), b.user.ID, c.ID) },
		"disabled": func(h *harness, b *browser, _ registered) error {
			return h.people.SetStatus(b.t(), b.user.ID, "disabled")
		},
	}
	each(t, func(t *testing.T, h *harness) {
		for name, end := range ends {
			b, c := h.person(t), h.client(t, nil)
			_, claims := claimsOf(t, b.tokens(t, c).str("access_token"))
			if err := end(h, b, c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			claims["jti"], claims["iat"] = "019aa000-0000-7000-8000-000000000000", h.Now().Add(time.Minute).Unix()
			late := must(h.Keys.Sign(t.Context(), "ES256", typAccessToken, claims))
			if h.introspectToken(t, c, late) {
				t.Errorf("%s: a token that is signed a moment later is active", name)
			}
		}
	})
}

// A session is ended in one process while another, which has not heard of it, inserts a grant.
func TestGrantInsertedWhileItsSessionEndsElsewhere(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		ends := map[string]func(b *browser, c registered, g *Grants) error{
			"session": func(b *browser, _ registered, g *Grants) error { return g.EndUser(b.t(), b.user.ID, b.session.ID) },
			"person":  func(b *browser, _ registered, g *Grants) error { return g.EndUser(b.t(), b.user.ID, "") },
			"consent": func(b *browser, c registered, g *Grants) error { return g.endApp(b.t(), b.user.ID, c.ID) },
		}
		for name, end := range ends {
			b, c := h.person(t), h.client(t, nil)
			if err := h.Grants.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			code := b.code(t, c)
			h.advanceClock(2 * time.Millisecond)
			elsewhere := OpenRevocations(h.DB, h.Now)
			if err := end(b, c, OpenGrants(GrantsConfig{DB: h.DB, Audit: h.Audit, Revocations: elsewhere, Key: h.RefreshKey, Now: h.Now})); err != nil {
				t.Fatal(err)
			}
			h.Revocations.mu.Lock()
			h.Revocations.read = h.Now() // it has not heard
			h.Revocations.mu.Unlock()
			a := h.exchangeCode(t, c, code)
			if a.status != http.StatusOK {
				continue // it took long enough to hear of it
			}
			h.advanceClock(readEvery)
			if err := h.Grants.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := h.refreshToken(t, c, a.str("refresh_token")); got.status == http.StatusOK {
				t.Errorf("%s: the grant outlived its end", name)
			}
		}
	})
}

// The session and the consent are read, then the person withdraws, then the code is made.
func TestCodeRacingWithWithdrawal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		req, err := h.parseAuthorization(t.Context(), c.params())
		if err != nil {
			t.Fatal(err)
		}
		req.interaction = h.newInteraction(req)
		began := h.Now()
		h.advanceClock(time.Second)
		if err := h.Withdraw(t.Context(), b.user.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(time.Second)
		w := httptest.NewRecorder()
		if err := h.issue(w, httptest.NewRequest(http.MethodGet, "/authorize", nil), req, &b.session, began); err != nil {
			t.Fatal(err)
		}
		code := must(url.Parse(w.Header().Get("Location"))).Query().Get("code")
		wantError(t, h.exchangeCode(t, c, code), http.StatusBadRequest, "invalid_grant")
	})
}

func TestWithdrawalOfInventedAppsFillsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		if err := h.Withdraw(t.Context(), b.user.ID, strings.Repeat("x", 60<<10)); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("withdraw: got error %v, want %v", err, db.ErrNotFound)
		}
		var n int
		if err := h.DB.QueryRow(t.Context(), `SELECT COUNT(*) FROM revocations`).Scan(&n); err != nil || n != 0 {
			t.Errorf("marks: got %d, %v, want 0", n, err)
		}
	})
}

func TestClientRegisteredAnewInheritsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		a := b.tokens(t, c)
		code := b.code(t, c)
		if err := h.Clients.Delete(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		again := h.client(t, func(n *Client) { n.ID = c.ID })
		if h.introspectToken(t, again, a.str("access_token")) {
			t.Error("the token of the deleted client is active again")
		}
		if got := h.userinfoAnswer(t, a.str("access_token")); got.status != http.StatusUnauthorized {
			t.Errorf("userinfo: got %d, want 401", got.status)
		}
		wantError(t, h.exchangeCode(t, again, code), http.StatusBadRequest, "invalid_grant")
		wantError(t, h.refreshToken(t, again, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
	})
}

func TestReplicaWithALateClockRevivesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		mark := markUser(h.person(t).user.ID)
		issued := h.Now()
		h.advanceClock(time.Second)
		for range 2 { // the second time by the late clock
			if err := h.Revocations.until(t.Context(), mark); err != nil {
				t.Fatal(err)
			}
			h.advanceClock(-time.Minute)
		}
		h.advanceClock(2 * time.Minute)
		if dead, err := h.Revocations.revoked(t.Context(), issued, mark); err != nil || !dead {
			t.Errorf("token from before the first mark: dead = %v, %v, want true", dead, err)
		}
	})
}

func TestSigningOutWithARotatedTokenEndsTheGrant(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		first := b.tokens(t, c).str("refresh_token")
		second := h.refreshToken(t, c, first)
		if second.status != http.StatusOK {
			t.Fatalf("refresh: %d %v", second.status, second.body)
		}
		other := h.client(t, nil)
		wantError(t, h.post(t, "/revoke", other, url.Values{"token": {first}}), http.StatusBadRequest, "unauthorized_client")
		if got := h.post(t, "/revoke", c, url.Values{"token": {first}}); got.status != http.StatusOK {
			t.Fatalf("revoke: %d %v", got.status, got.body)
		}
		wantError(t, h.refreshToken(t, c, second.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
		if h.introspectToken(t, c, second.str("access_token")) {
			t.Error("the access token outlives the grant")
		}
	})
}

// Strangers make the server remember requests. How many and how large is bounded for each network.
func TestStrangersCannotFillTheCacheWithRequests(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		ask := func(path, address string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r.WithContext(web.WithAddress(r.Context(), netip.MustParseAddr(address))))
			return w
		}
		w := ask("/authorize?"+c.params("padding", strings.Repeat("x", 8<<10)).Encode(), "2001:db8:1::1")
		id := must(url.Parse(w.Header().Get("Location"))).Query().Get("i")
		kept, ok, err := h.Cache.Get(t.Context(), interactionKey(id))
		if err != nil || !ok || len(kept) > 1<<10 {
			t.Errorf("kept of a request padded with 8 KiB: %d bytes, %v, %v, want less than 1 KiB", len(kept), ok, err)
		}
		if w := ask("/authorize?"+c.params("login_hint", strings.Repeat("x", maxRequest)).Encode(), "2001:db8:1::1"); w.Code != http.StatusBadRequest {
			t.Errorf("request of more than %d bytes: got %d, want 400", maxRequest, w.Code)
		}

		var network [16]byte // one of this test's own: Redis is shared
		_, _ = rand.Read(network[:8])
		flood := func(host byte) *httptest.ResponseRecorder {
			network[15] = host
			return ask("/authorize?"+c.params().Encode(), netip.AddrFrom16(network).String())
		}
		answered := 0
		for answered < 2*interactionsAtOnce && flood(byte(answered)).Code == http.StatusSeeOther {
			answered++
		}
		if answered < interactionsAtOnce || answered == 2*interactionsAtOnce { // a slow run gets a few more
			t.Errorf("%d requests from one /64 were kept, want about %d", answered, interactionsAtOnce)
		}
		if b := h.person(t); b.get(h, "/authorize?"+c.params().Encode()).Code != http.StatusSeeOther {
			t.Error("another network must not suffer")
		}
	})
}
