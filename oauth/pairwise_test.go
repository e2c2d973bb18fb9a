package oauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

func pairwise(c *Client) { c.SubjectType = SubjectPairwise }

// otherSector is a pairwise client of somebody else.
func otherSector(c *Client) {
	pairwise(c)
	c.RedirectURIs = []string{testRedirect, "https://app.example.test/other"}
	c.SectorURI = "https://other.example.test/sector"
}

// stored registers a client whose sector is not to be asked.
func (h *harness) stored(t testing.TB, edit func(c *Client)) registered {
	t.Helper()
	c := h.client(t, pairwise)
	edit(&c.Client)
	if _, err := h.DB.Exec(t.Context(), `UPDATE clients SET metadata = $2 WHERE id = $1`, c.ID, string(must(json.Marshal(c.Client)))); err != nil {
		t.Fatal(err)
	}
	h.Clients.mu.Lock()
	clear(h.Clients.byID)
	h.Clients.mu.Unlock()
	return c
}

func TestPairwiseSubject(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, other := h.person(t), h.person(t)
		c, same, foreign := h.client(t, pairwise), h.client(t, pairwise), h.stored(t, otherSector)
		sub := func(b *browser, c registered) string {
			a := b.tokens(t, c)
			_, id := claimsOf(t, a.str("id_token"))
			_, access := claimsOf(t, a.str("access_token"))
			info := h.userinfoAnswer(t, a.str("access_token"))
			seen := h.post(t, "/introspect", c, url.Values{"token": {a.str("access_token")}})
			refresh := h.post(t, "/introspect", c, url.Values{"token": {a.str("refresh_token")}})
			for name, got := range map[string]any{"access token": access["sub"], "userinfo": info.body["sub"], "introspection": seen.body["sub"], "of a refresh token": refresh.body["sub"]} {
				if got != id["sub"] {
					t.Errorf("%s: sub %v, ID token has %v", name, got, id["sub"])
				}
			}
			if info.body["email"] != b.user.Email {
				t.Errorf("userinfo: got %v", info.body)
			}
			again := h.refreshToken(t, c, a.str("refresh_token"))
			if _, refreshed := claimsOf(t, again.str("access_token")); refreshed["sub"] != id["sub"] {
				t.Errorf("refreshed: sub %v, want %v", refreshed["sub"], id["sub"])
			}
			return id["sub"].(string)
		}
		mine := sub(b, c)
		if len(mine) != 43 || mine == b.user.ID {
			t.Errorf("got %q", mine)
		}
		if again := sub(b, c); again != mine {
			t.Errorf("not stable: %q, then %q", mine, again)
		}
		if got := sub(b, same); got != mine {
			t.Errorf("same sector: got %q, want %q", got, mine)
		}
		if got := sub(b, foreign); got == mine {
			t.Error("another sector knows the person under the same name")
		}
		if got := sub(other, c); got == mine {
			t.Error("two people have one name")
		}
		if got := sub(b, h.client(t, nil)); got != b.user.ID {
			t.Errorf("public: got %q", got)
		}
	})
}

// Neither the person's id nor the session's may stand in anything that the app can read: two apps could compare.
func TestPairwiseClientsCannotCorrelatePeople(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c, foreign := h.person(t), h.client(t, pairwise), h.stored(t, otherSector)
		var sids []any
		for _, c := range []registered{c, foreign} {
			a := b.tokens(t, c, "claims", `{"id_token":{"email":null},"userinfo":{"name":null}}`)
			_, id := claimsOf(t, a.str("id_token"))
			sids = append(sids, id["sid"])
			reg := must(h.Clients.registration(t.Context(), c.ID))
			logout := must(h.Outbox.logoutToken(t.Context(), c.Client, &delivery{ID: "x", Subject: b.user.ID, SessionID: b.session.ID}))
			event := must(h.Outbox.securityEvent(t.Context(), c.Client, &delivery{ID: "x", Kind: "k", Subject: b.user.ID, SessionID: b.session.ID, MadeAt: time.Now()}))
			if _, out := claimsOf(t, logout); out["sub"] != id["sub"] || out["sid"] != id["sid"] || out["sid"] != reg.session(b.session.ID) {
				t.Errorf("logout token %v, ID token %v", out, id)
			}
			all := string(must(json.Marshal(a.body))) + string(must(json.Marshal(h.userinfoAnswer(t, a.str("access_token")).body)))
			for _, token := range []string{a.str("id_token"), a.str("access_token"), logout, event} {
				all += string(must(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])))
			}
			for name, id := range map[string]string{"person": b.user.ID, "session": b.session.ID} {
				if strings.Contains(all, id) {
					t.Errorf("the id of the %s is told: %s", name, all)
				}
			}
		}
		if sids[0] == sids[1] {
			t.Error("two sectors know the session under the same name")
		}
	})
}

func TestPairwiseTokensEndWithTheirPerson(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, pairwise)
		for name, end := range map[string]func(b *browser) error{
			"session": func(b *browser) error { return h.people.EndSession(t.Context(), b.user.ID, b.session.ID) },
			"people":  func(b *browser) error { _, err := h.people.EndSessions(t.Context(), b.user.ID, ""); return err },
			"consent": func(b *browser) error { return h.Withdraw(t.Context(), b.user.ID, c.ID) },
		} {
			b := h.person(t)
			a := b.tokens(t, c)
			if !h.introspectToken(t, c, a.str("access_token")) {
				t.Fatalf("%s: not active before", name)
			}
			h.advanceClock(time.Second)
			if err := end(b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if h.introspectToken(t, c, a.str("access_token")) {
				t.Errorf("%s ended: the access token works", name)
			}
			if got := h.refreshToken(t, c, a.str("refresh_token")); got.status == http.StatusOK {
				t.Errorf("%s ended: the refresh token works", name)
			}
		}
	})
}

func TestPairwiseNamesThatComeBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, stranger, c := h.person(t), h.person(t), h.client(t, pairwise)
		a := b.tokens(t, c)
		stranger.consent(t, c)
		_, id := claimsOf(t, a.str("id_token"))
		hint := []string{"prompt", "none", "id_token_hint", a.str("id_token")}
		wanted := []string{"prompt", "none", "claims", `{"id_token":{"sub":{"value":"` + id["sub"].(string) + `"}}}`}
		for name, edits := range map[string][]string{"hint": hint, "claim": wanted} {
			q := b.authorize(t, h, c.params(edits...))
			if q.Get("code") == "" {
				t.Fatalf("%s: got %v", name, q)
			}
			if a := h.exchangeCode(t, c, q.Get("code")); a.status != http.StatusOK {
				t.Errorf("%s: exchange: %d %v", name, a.status, a.body)
			}
			if q := stranger.authorize(t, h, c.params(edits...)); q.Get("error") != "login_required" {
				t.Errorf("%s of another person: got %v", name, q)
			}
		}
		// The id itself is nobody's name for this client.
		if q := b.authorize(t, h, c.params("prompt", "none", "claims", `{"id_token":{"sub":{"value":"`+b.user.ID+`"}}}`)); q.Get("error") != "login_required" {
			t.Errorf("internal id: got %v", q)
		}
		out, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {a.str("id_token")}})
		if err != nil || !out.Certain(b.session, b.user.Email) || out.Certain(stranger.session, stranger.user.Email) {
			t.Errorf("logout: %+v %v", out, err)
		}
	})
}

func TestSectorMustKnowTheClient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p := publish(t, json.RawMessage(`["`+testRedirect+`"]`))
		draft := Client{Name: "x", RequirePKCE: true, RedirectURIs: []string{testRedirect}, Messages: Messages{SubjectType: SubjectPairwise, SectorURI: p.URL + "/sector"}}
		refused := func(what string, c Client) {
			t.Helper()
			if _, _, err := h.Clients.Create(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "sector_identifier_uri") {
				t.Errorf("%s: got %v", what, err)
			}
		}
		refused("nothing is fetched", draft)
		h.Clients.Outbound = outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		c, _, err := h.Clients.Create(t.Context(), draft)
		if err != nil {
			t.Fatal(err)
		}
		c.RedirectURIs = append(c.RedirectURIs, "https://evil.example.test/callback")
		if err := h.Clients.Update(t.Context(), c); err == nil {
			t.Error("a redirect URI that the sector does not list is taken")
		}
		for _, body := range []string{`{}`, `["https://other.example.test/"]`, `x`, ``} {
			p.set(http.StatusOK, json.RawMessage(body))
			refused(body, draft)
		}
		p.set(http.StatusNotFound, json.RawMessage(`["`+testRedirect+`"]`))
		refused("not found", draft)
		// While the sector is away its clients can still be changed.
		c.RedirectURIs, c.Disabled = []string{testRedirect}, true
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Errorf("disable: %v", err)
		}
		two := draft
		two.RedirectURIs, two.SectorURI = []string{testRedirect, "https://other.example.test/callback"}, ""
		refused("two hosts", two)
		native := draft
		native.RedirectURIs, native.SectorURI = []string{"com.example.app:/callback"}, ""
		refused("no host", native)
		draft.RevokesPeople = true
		if _, _, err := h.Clients.Create(t.Context(), draft); err == nil {
			t.Error("a pairwise client may end everything of people")
		}
	})
}
