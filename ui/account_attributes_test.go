package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
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
