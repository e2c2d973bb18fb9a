package oauth

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

const testAfterLogout = "https://app.example.test/bye"

func leaving(c *Client) { c.PostLogoutRedirectURIs = []string{testAfterLogout, "com.example.app:/bye"} }

// The hint may be as old as it likes: neither the token nor the key that signed it need be alive (RP-Initiated Logout 1.0 §2).
func TestLogoutHintOfAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, leaving)
		hint := b.tokens(t, c).str("id_token")
		for range 3 {
			h.advanceClock(91 * 24 * time.Hour)
			for range 2 {
				if err := h.Keys.Maintain(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := h.Keys.Verify(hint); err == nil {
			t.Fatal("the key lives on")
		}
		l, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {testAfterLogout}})
		if err != nil || l.Client.ID != c.ID || l.SessionID != b.session.ID || l.Next != testAfterLogout {
			t.Errorf("got %+v, %v", l, err)
		}
		if !l.Certain(b.session, b.user.Email) || l.Certain(identity.Session{ID: "another", UserID: b.user.ID}, b.user.Email) {
			t.Error("the hint is for its session and no other")
		}
	})
}

// Whatever else this server has signed is no ID token (cross-JWT confusion, RFC 8725 §2.8).
func TestLogoutHintThatIsNoIDToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, leaving)
		tokens := b.tokens(t, c)
		for name, token := range map[string]string{
			"access token": tokens.str("access_token"), "refresh token": tokens.str("refresh_token"), "garbage": "a.b.c", "cut": strings.TrimSuffix(tokens.str("id_token"), "A"),
			"logout token": must(h.Keys.Sign(t.Context(), "ES256", "logout+jwt", map[string]any{"iss": testIssuer, "sub": b.user.ID, "aud": c.ID, "sid": b.session.ID})),
			"other issuer": must(h.Keys.Sign(t.Context(), "ES256", "JWT", map[string]any{"iss": "https://other.example", "sub": b.user.ID, "aud": c.ID, "sid": b.session.ID})),
			"two apps":     must(h.Keys.Sign(t.Context(), "ES256", "JWT", map[string]any{"iss": testIssuer, "sub": b.user.ID, "aud": []string{c.ID, "other"}, "sid": b.session.ID})),
		} {
			if name == "cut" && token == tokens.str("id_token") {
				token += "A"
			}
			l, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {testAfterLogout}})
			if err != nil || l.Refused != RefusedHint || l.Next != "" || l.Certain(b.session, b.user.Email) {
				t.Errorf("%s: got %+v, %v", name, l, err)
			}
		}
	})
}

func TestLogoutOfADisabledOrDeletedApp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, leaving)
		form := url.Values{"id_token_hint": {b.tokens(t, c).str("id_token")}, "post_logout_redirect_uri": {"com.example.app:/bye"}, "state": {"s"}}
		l, err := h.ReadLogout(t.Context(), form)
		if err != nil || l.Next != "com.example.app:/bye?state=s" || l.AppScheme() != "com.example.app:" {
			t.Fatalf("got %+v, %v", l, err)
		}
		c.Disabled = true
		if err := h.Clients.Update(t.Context(), c.Client); err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{"disabled", "deleted"} {
			if l, err := h.ReadLogout(t.Context(), form); err != nil || l.Next != "" || l.Client.ID != "" || !l.Certain(b.session, b.user.Email) {
				t.Errorf("%s: got %+v, %v; want a sign-out without a way back", state, l, err)
			}
			if err := h.Clients.Delete(t.Context(), c.ID); state == "disabled" && err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestLogoutAddresses(t *testing.T) {
	t.Parallel()
	valid := Client{ID: "x", Name: "X", RedirectURIs: []string{"https://app.example.test/cb", "http://127.0.0.1:1/cb"}, RequirePKCE: true}.WithDefaults()
	for name, edit := range map[string]func(c *Client){
		"fragment":              func(c *Client) { c.PostLogoutRedirectURIs = []string{"https://a.example/#x"} },
		"wildcard":              func(c *Client) { c.PostLogoutRedirectURIs = []string{"https://*.example/"} },
		"script":                func(c *Client) { c.PostLogoutRedirectURIs = []string{"javascript:alert(1)"} },
		"plain http":            func(c *Client) { c.PostLogoutRedirectURIs = []string{"http://a.example/"} },
		"own state":             func(c *Client) { c.PostLogoutRedirectURIs = []string{"https://a.example/?state=x"} },
		"too many":              func(c *Client) { c.PostLogoutRedirectURIs = make([]string, maxListLength+1) },
		"backchannel http":      func(c *Client) { c.BackchannelLogoutURI = "http://app.example.test/logout" },
		"backchannel fragment":  func(c *Client) { c.BackchannelLogoutURI = "https://app.example.test/logout#x" },
		"backchannel user":      func(c *Client) { c.BackchannelLogoutURI = "https://u:p@app.example.test/logout" },
		"backchannel file":      func(c *Client) { c.BackchannelLogoutURI = "file:///etc/passwd" },
		"frontchannel stranger": func(c *Client) { c.FrontchannelLogoutURI = "https://other.example.test/logout" },
		"frontchannel port":     func(c *Client) { c.FrontchannelLogoutURI = "https://app.example.test:8443/logout" },
		"frontchannel scheme":   func(c *Client) { c.FrontchannelLogoutURI = "http://127.0.0.1:2/logout" },
	} {
		c := valid
		edit(&c)
		if c.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	valid.PostLogoutRedirectURIs = []string{"https://a.example/bye?x=y", "http://127.0.0.1:1/", "com.example.app:/bye"}
	valid.BackchannelLogoutURI, valid.FrontchannelLogoutURI = "https://backend.example/logout?x=y", "https://app.example.test/logout"
	if err := valid.Validate(); err != nil {
		t.Error(err)
	}
}
