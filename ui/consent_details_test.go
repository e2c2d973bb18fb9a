package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

const payRent = `[{"type":"payment","amount":{"value":"980.00","currency":"EUR"},"creditor":"Example Housing Ltd","locations":["https://bank.example.test/payments"]}]`

// reachAPIs registers two APIs, a type of details, and an app that asks for them; it returns the address of the request.
func (w *world) reachAPIs(t testing.TB, details string) string {
	t.Helper()
	const bank, orders = "https://bank.example.test/payments", "https://orders.example.test"
	for _, a := range []identity.API{
		{Identifier: bank, Name: "Example Bank", Resource: identity.Resource{Scopes: []identity.APIScope{{Name: "accounts.read", Description: "see your accounts"}}}},
		{Identifier: orders, Name: "Orders", Resource: identity.Resource{Scopes: []identity.APIScope{{Name: "orders.read", Description: "see your orders"}, {Name: "orders.write", Description: "place and change orders"}}}},
	} {
		if _, err := w.people.CreateResource(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
	}
	text := &oauth.Schema{Type: "string", MaxLength: 80}
	err := w.server.DetailsTypes().Create(t.Context(), oauth.DetailsType{
		Type: "payment", APIs: []string{bank},
		Schema: &oauth.Schema{Type: "object", Required: []string{"amount", "creditor"}, Properties: map[string]*oauth.Schema{
			"creditor": text, "amount": {Type: "object", Properties: map[string]*oauth.Schema{"value": text, "currency": text}},
		}},
		Words: map[string]string{"en": "pay {amount.value} {amount.currency} to {creditor}", "ar": "دفع {amount.value} {amount.currency} إلى {creditor}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := w.app(t, func(c *oauth.Client) {
		c.Audiences, c.DetailsTypes = []string{bank, orders}, []string{"payment"}
		c.Scopes = []string{"openid", "email", "offline_access", "accounts.read", "orders.read", "orders.write"}
	})
	v := url.Values{"scope": {"openid email accounts.read orders.read orders.write"}, "resource": {bank, orders}}
	if details != "" {
		v.Set("authorization_details", details)
	}
	return authorize(app, v)
}

func TestConsentInDetail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	p := b.get(w.reachAPIs(t, payRent)).says("pay 980.00 EUR to Example Housing Ltd", "Example Bank", "Orders", "see your accounts", "place and change orders")
	if !strings.Contains(p.body, "<strong><bdi>Example Housing Ltd</bdi></strong>") {
		t.Errorf("what the app says is not set apart:\n%s", p.body)
	}
}

// The app puts words into the sentence that look like the page's own.
func TestAttackDetailsThatPassForThePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	evil := strings.Replace(payRent, "Example Housing Ltd", `</bdi></strong><h1>Free of charge</h1>{amount.value}<img src=x onerror=alert(1)>`, 1)
	p := b.get(w.reachAPIs(t, evil))
	if p.status != http.StatusOK || strings.Contains(p.body, "<h1>Free") || strings.Contains(p.body, "<img src=x") || !strings.Contains(p.body, "&lt;h1&gt;Free of charge&lt;/h1&gt;{amount.value}") {
		t.Errorf("the page: %d\n%s", p.status, p.body)
	}
}
