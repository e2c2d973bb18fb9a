package oauth

import (
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
)

// knows defines an attribute, gives the person a value and maps it.
func (h *harness) knows(t testing.TB, b *browser, name, value string, claims ...identity.AttributeClaim) identity.Attribute {
	t.Helper()
	a, err := h.people.CreateAttribute(t.Context(), "", identity.Attribute{Name: name, Type: identity.TypeString})
	for _, c := range claims {
		if err == nil {
			err = h.people.MapAttribute(t.Context(), "", a.ID, c)
		}
	}
	if err == nil {
		err = h.people.SetAttributes(t.Context(), "", b.user.ID, false, map[string]string{name: value})
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAttributesInTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, api := h.person(t), h.client(t, nil)
		app := h.client(t, func(c *Client) { c.Scopes, c.Audiences = append(c.Scopes, "work"), []string{api.ID} })
		other := h.client(t, func(c *Client) { c.Scopes = append(c.Scopes, "work") })
		badge := h.knows(t, b, "badge", "E12", identity.AttributeClaim{Claim: "badge_no", Scope: "work"})
		h.knows(t, b, "site", "Berlin", identity.AttributeClaim{Claim: "site", Scope: "work", IDToken: true})
		h.knows(t, b, "level", "high", identity.AttributeClaim{Claim: "level", Scope: "work", ClientID: app.ID, AccessToken: true})
		see := func(app registered, scope string) (seen map[string]map[string]any, a answer) {
			t.Helper()
			a = b.tokens(t, app, "scope", scope)
			_, id := claimsOf(t, a.str("id_token"))
			_, access := claimsOf(t, a.str("access_token"))
			return map[string]map[string]any{
				"ID token": id, "access token": access, "userinfo": h.userinfoAnswer(t, a.str("access_token")).body,
				"introspection": h.post(t, "/introspect", app, url.Values{"token": {a.str("access_token")}}).body,
			}, a
		}
		want := func(what string, seen map[string]map[string]any, in map[string]string) {
			t.Helper()
			for where, claims := range seen {
				for _, name := range []string{"badge_no", "site", "level"} {
					if got, should := claims[name] != nil, strings.Contains(in[where], name); got != should {
						t.Errorf("%s: %s has %s %v, want %v", what, where, name, got, should)
					}
				}
			}
		}
		seen, a := see(app, "openid offline_access work")
		want("mapped", seen, map[string]string{"ID token": "site", "access token": "level", "introspection": "level", "userinfo": "badge_no site level"})
		if seen["access token"]["level"] != "high" || seen["ID token"]["sub"] != b.user.ID {
			t.Errorf("seen %v", seen)
		}
		byAPI := h.post(t, "/introspect", api, url.Values{"token": {a.str("access_token")}}).body
		if byAPI["level"] != "high" || byAPI["badge_no"] != nil {
			t.Errorf("the API sees %v", byAPI)
		}
		seen, _ = see(app, "openid offline_access")
		want("without the scope", seen, nil)
		seen, _ = see(other, "openid work")
		want("another app", seen, map[string]string{"ID token": "site", "userinfo": "badge_no site"})

		// Introspection and refreshed tokens tell what holds by now.
		if err := h.people.SetAttributes(t.Context(), "", b.user.ID, false, map[string]string{"level": "low"}); err != nil {
			t.Fatal(err)
		}
		if got := h.post(t, "/introspect", api, url.Values{"token": {a.str("access_token")}}).body["level"]; got != "low" {
			t.Errorf("introspection says %v", got)
		}
		if err := h.people.MapAttribute(t.Context(), "", badge.ID, identity.AttributeClaim{Claim: "badge_no", Scope: "work", IDToken: true}); err != nil {
			t.Fatal(err)
		}
		a = h.refreshToken(t, app, a.str("refresh_token"))
		_, access := claimsOf(t, a.str("access_token"))
		_, id := claimsOf(t, a.str("id_token"))
		if access["level"] != "low" || id["badge_no"] != "E12" {
			t.Errorf("refreshed: %v %v", access, id)
		}
	})
}

// Whoever may edit an attribute of their own must not write what this server, or an API, takes for its word.
func TestAttackAttributePosesAsProtocolClaim(t *testing.T) {
	t.Parallel()
	for _, body := range []any{accessClaims{}, idClaims{}, introspection{}} {
		for f := range reflect.TypeOf(body).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" && name != "-" && !identity.ReservedClaim(name) {
				t.Errorf("%T: an attribute can be the claim %q", body, name)
			}
		}
	}
}

// A token must fit into a header; userinfo has what does not.
func TestAttackAttributesLargerThanAnyHeader(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		app := h.client(t, func(c *Client) { c.Scopes = append(c.Scopes, "work") })
		for i := range 12 {
			name := "note_" + string(rune('a'+i))
			h.knows(t, b, name, strings.Repeat("x", 480), identity.AttributeClaim{Claim: name, Scope: "work", IDToken: true, AccessToken: true})
		}
		a := b.tokens(t, app, "scope", "openid work")
		for _, token := range []string{"id_token", "access_token"} {
			if n := len(a.str(token)); n > 7<<10 {
				t.Errorf("%s has %d bytes", token, n)
			}
			if _, claims := claimsOf(t, a.str(token)); claims["note_a"] == nil || claims["note_l"] != nil {
				t.Errorf("%s: the first %v, the last %v", token, claims["note_a"] != nil, claims["note_l"] != nil)
			}
		}
		if got := h.userinfoAnswer(t, a.str("access_token")).body; got["note_a"] == nil || got["note_l"] == nil {
			t.Error("userinfo lacks some")
		}
	})
}
