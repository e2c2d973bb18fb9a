package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// attributes defines one of each kind, gives alice two values and keeps one from her.
func (w *world) attributes(t testing.TB, u identity.User) {
	t.Helper()
	mine := identity.Attribute{View: identity.ForPerson, Edit: identity.ForPerson}
	for name, a := range map[string]identity.Attribute{
		"shoe": {Label: "Shoe size", Type: identity.TypeNumber}, "shirt": {Label: "Shirt", Type: identity.TypeEnum, Options: []string{"S", "M"}},
		"parking": {Label: "Needs a parking space", Type: identity.TypeBoolean}, "hired": {Label: "First day", Type: identity.TypeDate},
		"languages": {Label: "Languages", Type: identity.TypeList}, "diet": {Label: "Diet", Type: identity.TypeString, Pattern: "[a-z]{3,}"},
	} {
		a.Name, a.View, a.Edit = name, mine.View, mine.Edit
		if _, err := w.people.CreateAttribute(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []identity.Attribute{
		{Name: "badge", Label: "Badge", Type: identity.TypeString, View: identity.ForPerson}, {Name: "secret", Label: "Secret", Type: identity.TypeString},
	} {
		if _, err := w.people.CreateAttribute(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.people.SetAttributes(t.Context(), "", u.ID, false, map[string]string{"badge": "E12", "secret": "hush", "languages": "German\nFrench"}); err != nil {
		t.Fatal(err)
	}
}

func TestAttributesPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	w.attributes(t, u)
	b := w.browser(t)
	b.signIn(alice)
	p := b.get("/account/attributes").want(http.StatusOK, "attributes-submit")
	forbidden(t, p.body, "hush", "Secret")
	p = b.press(p, "attributes-submit", map[string]string{"attribute.shoe": "big", "attribute.shirt": "M"}).want(http.StatusUnprocessableEntity, "summary", "shoe-problem")
	b.press(p, "attributes-submit", map[string]string{"attribute.shoe": "42.5", "attribute.shirt": "M", "attribute.languages": "German\r\nFrench"}).want(http.StatusOK, "done")
	// What is the operator's, or hidden, is not taken from a form (mass assignment).
	b.post("/account/attributes", url.Values{"attribute.badge": {"E99"}, "attribute.secret": {"known"}, "attribute.parking": {"true"}}).want(http.StatusOK, "done")
	held, err := w.people.AttributesOf(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range held {
		got = append(got, h.Name+"="+string(h.Value))
	}
	if want := `badge="E12" languages=["German","French"] parking=true secret="hush" shirt="M" shoe=42.5`; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

// required defines what everybody has to give, and what only operators do.
func (w *world) required(t testing.TB) {
	t.Helper()
	for _, a := range []identity.Attribute{
		{Name: "staff_no", Label: "Staff number", Type: identity.TypeString, Pattern: "E[0-9]+", Required: true, View: identity.ForPerson, Edit: identity.ForPerson},
		{Name: "parking", Label: "Needs a parking space", Type: identity.TypeBoolean, Required: true, View: identity.ForPerson, Edit: identity.ForPerson},
		{Name: "site", Label: "Site", Type: identity.TypeString, Required: true, View: identity.ForPerson},
		{Name: "diet", Label: "Diet", Type: identity.TypeString, View: identity.ForPerson, Edit: identity.ForPerson},
	} {
		if _, err := w.people.CreateAttribute(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever lacks what is required gives it on the way in, to the account or to an app; what only operators can give keeps nobody out.
func TestRequiredAttributesAreAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	atAccount(t, b.signIn(alice)) // nothing is required yet
	w.required(t)

	if p := b.get(authorize(c, url.Values{"prompt": {"none"}})); !strings.Contains(p.away, "error=interaction_required") {
		t.Errorf("prompt=none: at %s %s", p.url, p.away)
	}
	p := b.get(authorize(c, nil)).want(http.StatusOK, "missing-submit", "staff_no", "parking", "use-another").says("Demo app")
	if p.id("site") != nil || p.id("diet") != nil {
		t.Error("asked for what the person cannot give, or need not")
	}
	p = b.press(p, "missing-submit", map[string]string{"attribute.staff_no": "12"}).want(http.StatusUnprocessableEntity, "staff_no-problem", "parking-problem")
	path, form := p.form("missing-submit")
	for name, value := range map[string]string{"staff_no": "E12", "parking": "false", "site": "Berlin", "diet": "none"} {
		form.Set("attribute."+name, value)
	}
	b.post(path, form).atApp()
	held, err := w.people.AttributesOf(t.Context(), u.ID)
	if err != nil || len(held) != 2 {
		t.Errorf("held %+v, %v: the form has set what it did not ask for", held, err)
	}
	b.get("/attributes").at("/account")

	w.person(t, bob)
	other := w.browser(t)
	p = other.signIn(bob)
	p.at("/attributes")
	if p.id("use-another") != nil {
		t.Error("without an app there is no other account to choose")
	}
	other.post("/attributes", url.Values{"person": {u.ID}, "attribute.staff_no": {"E1"}, "attribute.parking": {"true"}}).want(http.StatusConflict)
	atAccount(t, other.press(p, "missing-submit", map[string]string{"attribute.staff_no": "E13", "attribute.parking": "true"}))
	atAccount(t, w.browser(t).signIn(bob))
}

// The consent page says in words what an app will see of the attributes, and of no others.
func TestConsentNamesAttributes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	w.attributes(t, u)
	for name, claim := range map[string]identity.AttributeClaim{
		"badge": {Claim: "badge_no", Scope: "profile"}, "secret": {Claim: "clearance", Scope: "profile", AccessToken: true}, "shoe": {Claim: "shoe", Scope: "phone"},
		"diet": {Claim: "diet", Scope: "profile", ClientID: "another-app"},
	} {
		a, err := w.people.Attribute(t.Context(), name)
		if err == nil {
			err = w.people.MapAttribute(t.Context(), "", a.ID, claim)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b := w.browser(t)
	b.signIn(alice)
	c := w.app(t)
	p := b.get(authorize(c, url.Values{"scope": {"openid profile"}})).want(http.StatusOK, "consent-allow", "consent-about")
	if got := textOf(p.id("consent-about")); !strings.Contains(got, "Badge") || !strings.Contains(got, "Secret") || strings.Contains(got, "Shoe") || strings.Contains(got, "Diet") {
		t.Errorf("the page says %q", got)
	}
	forbidden(t, p.body, "E12", "hush") // its values are none of the page's
	if p := b.get(authorize(c, nil)).want(http.StatusOK, "consent-allow"); p.id("consent-about") != nil {
		t.Error("named without the scope")
	}
}
