package oauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// delicateAPI is an API that wants, for what is delicate, a second factor and a sign-in that is recent (RFC 9470).
type delicateAPI struct {
	h  *harness
	as registered // by which it introspects
	t  testing.TB
}

const recent = 5 * time.Minute

func (a delicateAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c := a.h.post(a.t, "/introspect", a.as, url.Values{"token": {token}}).body
	if c["active"] != true {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	acr, _ := c["acr"].(string)
	at, _ := c["auth_time"].(float64)
	if !slices.Contains([]string{identity.ACRMFA, identity.ACRPhishingResistant}, acr) || a.h.Now().Sub(time.Unix(int64(at), 0)) > recent {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_user_authentication", acr_values=%q, max_age="%d"`, identity.ACRMFA, int(recent.Seconds())))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a delicateAPI) ask(token string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(http.MethodPost, "/delicate", nil), httptest.NewRecorder()
	r.Header.Set("Authorization", "Bearer "+token)
	a.ServeHTTP(w, r)
	return w
}

var parameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

// The whole loop of RFC 9470: the API refuses, the app repeats what it wants at /authorize, the person proves it, the token says so. It works
// for tokens that the API reads and for those it asks about.
func TestStepUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for _, format := range []string{identity.FormatJWT, identity.FormatOpaque} {
			identifier := "https://" + format + ".example.test"
			api := delicateAPI{h, h.introspector(t), t}
			h.api(t, identifier, func(r *identity.Resource) { r.Format, r.ClientID = format, api.as.ID }, "read")
			c, b := h.client(t, func(c *Client) { c.Audiences = []string{identifier} }), h.person(t)
			params := func(edits ...string) url.Values {
				return with(c.params(append([]string{"scope", "openid offline_access read", "prompt", ""}, edits...)...), "resource", identifier)
			}
			first := h.exchangeCode(t, c, b.allow(t, h, params()).Get("code"))
			if first.status != http.StatusOK {
				t.Fatalf("%s: %v", format, first.body)
			}
			refused := api.ask(first.str("access_token"))
			challenge := map[string]string{}
			for _, m := range parameter.FindAllStringSubmatch(refused.Header().Get("WWW-Authenticate"), -1) {
				challenge[m[1]] = m[2]
			}
			if refused.Code != http.StatusUnauthorized || challenge["error"] != "insufficient_user_authentication" {
				t.Fatalf("%s: the API says %d %v", format, refused.Code, challenge)
			}
			// A refresh asks the person nothing, so it cannot help (no step-up by refresh).
			again := h.post(t, "/token", c, with(refreshForm(first.str("refresh_token")), "resource", identifier))
			if got := api.ask(again.str("access_token")); got.Code != http.StatusUnauthorized {
				t.Errorf("%s: a refresh did: %d", format, got.Code)
			}
			v := params("acr_values", challenge["acr_values"], "max_age", challenge["max_age"])
			if to := b.get(h, "/authorize?"+v.Encode()).Header().Get("Location"); !strings.HasPrefix(to, "/step-up") {
				t.Fatalf("%s: led to %s, want the second factor", format, to)
			}
			b.signInBy(t, identity.AMRPassword, identity.AMROTP, identity.AMRMFA)
			got := h.exchangeCode(t, c, b.authorize(t, h, v).Get("code"))
			if done := api.ask(got.str("access_token")); done.Code != http.StatusNoContent {
				t.Errorf("%s: after the second factor: %d %s", format, done.Code, done.Header())
			}
			// Some time later it was too long ago.
			h.advanceClock(recent + time.Minute)
			later := h.post(t, "/token", c, with(refreshForm(got.str("refresh_token")), "resource", identifier))
			if done := api.ask(later.str("access_token")); done.Code != http.StatusUnauthorized || !strings.Contains(done.Header().Get("WWW-Authenticate"), `max_age="`+strconv.Itoa(int(recent.Seconds()))+`"`) {
				t.Errorf("%s: the sign-in counts as recent for ever: %d %s", format, done.Code, done.Header())
			}
			if to := b.get(h, "/authorize?"+v.Encode()).Header().Get("Location"); !strings.HasPrefix(to, "/login") {
				t.Errorf("%s: led to %s, want a fresh sign-in", format, to)
			}
			h.advanceClock(-recent - time.Minute)
		}
	})
}

// signInBy signs in anew with given factors.
func (b *browser) signInBy(t testing.TB, amr ...string) {
	t.Helper()
	var err error
	b.token, b.session, err = b.h.people.StartSession(t.Context(), b.user.ID, amr, identity.Device{Address: netip.MustParseAddr("192.0.2.1")}, b.token, time.Time{})
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
}
