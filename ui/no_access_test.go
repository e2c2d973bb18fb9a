package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// Who may not use an app is told so on a page, the app by access_denied.
func TestAppForAnotherGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	g, err := w.people.CreateGroup(t.Context(), "", "Staff", "")
	if err != nil {
		t.Fatal(err)
	}
	c := w.app(t, func(c *oauth.Client) { c.AllowGroups = []string{g.ID} })
	b := w.browser(t)
	b.signIn(alice)
	p := b.get(authorize(c, nil)).want(http.StatusForbidden, "no-access-back", "use-another")
	p.says("Demo app", alice)
	forbidden(t, p.body, "Staff", g.ID)
	away := b.press(p, "no-access-back", nil).away
	if q, err := url.Parse(away); err != nil || !strings.HasPrefix(away, callback) || q.Query().Get("error") != "access_denied" {
		t.Errorf("sent to %q, want access_denied at the app", away)
	}
	// Added while the page was open: the same request goes on.
	p = b.get(authorize(c, nil)).want(http.StatusForbidden, "no-access-back")
	if err := w.people.AddMember(t.Context(), "", g.ID, u.ID, false); err != nil {
		t.Fatal(err)
	}
	b.get("/authorize/resume?i="+p.url.Query().Get("i")).want(http.StatusOK, "consent-allow")
	// Consent that was given is no way around the limit.
	p = b.press(b.get(authorize(c, nil)), "consent-allow", nil)
	if !strings.Contains(p.away, "code=") {
		t.Fatalf("a member got %q", p.away)
	}
	if err := w.people.RemoveMember(t.Context(), "", g.ID, u.ID); err != nil {
		t.Fatal(err)
	}
	b.get(authorize(c, nil)).want(http.StatusForbidden, "no-access-back")
}
