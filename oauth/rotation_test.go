package oauth

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// An app on go-oidc keeps the keys it has fetched. It believes tokens of the key before, of the one after, and of no
// other, without being told of the change.
func TestGoOIDCFollowsTheRotationOfKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		site := httptest.NewServer(h.handler)
		t.Cleanup(site.Close)
		ctx := t.Context()
		c, b := h.client(t, nil), h.person(t)
		newApp := func(now func() time.Time) *oidc.IDTokenVerifier {
			return oidc.NewVerifier(testIssuer, oidc.NewRemoteKeySet(ctx, site.URL+"/jwks"), &oidc.Config{ClientID: c.ID, Now: now, SupportedSigningAlgs: []string{"ES256"}})
		}
		app := newApp(h.Now)
		idToken := func() (raw string, kid any) {
			raw = b.tokens(t, c).str("id_token")
			head, _ := claimsOf(t, raw)
			return raw, head["kid"]
		}
		believed := func(what, raw string) {
			t.Helper()
			if id, err := app.Verify(ctx, raw); err != nil || id.Subject != b.user.ID {
				t.Errorf("%s: %v", what, err)
			}
		}
		before, first := idToken()
		believed("before", before)

		if _, err := h.Keys.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		announced, kid := idToken()
		if kid != first {
			t.Error("a key signs before apps can know it")
		}
		believed("while the next key is announced", announced)

		h.advanceClock(h.Keys.MaxAge() + 10*time.Minute)
		if err := h.Keys.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
		after, second := idToken()
		if second == first {
			t.Fatal("the old key still signs")
		}
		believed("after", after)
		app = newApp(func() time.Time { return h.Now().Add(-h.Keys.MaxAge()) }) // while that token lives
		believed("a token of the key before, by an app that starts now", announced)
		if _, err := app.Verify(ctx, after[:len(after)-8]+"AAAAAAAA"); err == nil {
			t.Error("a forged signature is believed")
		}
	})
}
