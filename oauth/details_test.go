package oauth

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

const paymentDetail = `{"type":"payment","amount":{"currency":"EUR","value":"12.50"},"creditor":"Example Ltd"}`

// sentence puts what an app says in brackets.
func sentence(parts []WordsPart) string {
	var b strings.Builder
	for _, p := range parts {
		if p.Value {
			p.Text = "[" + p.Text + "]"
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// payments registers a type and a client that may ask for it.
func (h *harness) payments(t testing.TB) registered {
	t.Helper()
	text := &Schema{Type: "string", MaxLength: 40}
	err := h.DetailsTypes().Create(t.Context(), DetailsType{
		Type: "payment",
		Schema: &Schema{Type: "object", Required: []string{"amount", "creditor"}, Properties: map[string]*Schema{
			"creditor": text, "note": text,
			"amount": {Type: "object", Required: []string{"value"}, Properties: map[string]*Schema{"value": text, "currency": {Type: "string", Enum: []string{"EUR", "USD"}}}},
		}},
		Words: map[string]string{"en": "pay {amount.value} {amount.currency} to {creditor}", "de": "{amount.value} {amount.currency} an {creditor} zahlen"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h.client(t, func(c *Client) { c.DetailsTypes = []string{"payment"} })
}

func TestAuthorizationDetails(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.payments(t), h.person(t)
		other := strings.Replace(paymentDetail, "12.50", "3.00", 1)
		v := c.params("scope", "openid offline_access", "authorization_details", "["+paymentDetail+", "+other+"]")
		w := b.get(h, "/authorize?"+v.Encode())
		id := must(url.Parse(w.Header().Get("Location"))).Query().Get("i")
		in, err := h.Interaction(t.Context(), id, b.user.ID)
		if err != nil || len(in.Details) != 2 || sentence(in.Details[0].Words("de")) != "[12.50] [EUR] an [Example Ltd] zahlen" || sentence(in.Details[0].Words("ja")) != "pay [12.50] [EUR] to [Example Ltd]" {
			t.Fatalf("the consent page: %+v, %v", in.Details, err)
		}
		got := h.exchangeCode(t, c, b.allow(t, h, v).Get("code"))
		if list, _ := got.body["authorization_details"].([]any); len(list) != 2 {
			t.Fatalf("answer %v", got.body)
		}
		_, claims := claimsOf(t, got.str("access_token"))
		if list, _ := claims["authorization_details"].([]any); len(list) != 2 {
			t.Errorf("access token %v", claims)
		}
		if a := h.post(t, "/introspect", c, url.Values{"token": {got.str("access_token")}}); a.body["authorization_details"] == nil {
			t.Errorf("introspection %v", a.body)
		}
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.str("refresh_token")}, "authorization_details": {"[" + other + "]"}}
		next := h.post(t, "/token", c, refresh)
		if list, _ := next.body["authorization_details"].([]any); len(list) != 1 {
			t.Errorf("narrowed at refresh: %v", next.body)
		}
		if a := h.do(t, must(http.NewRequestWithContext(t.Context(), http.MethodGet, "/.well-known/openid-configuration", nil))); len(a.body["authorization_details_types_supported"].([]any)) != 1 || a.body["issuer"] != testIssuer {
			t.Errorf("metadata %v", a.body)
		}
		// A type that is gone is not granted any more.
		if err := h.DetailsTypes().Delete(t.Context(), "payment"); err != nil {
			t.Fatal(err)
		}
		again := h.refreshToken(t, c, next.str("refresh_token"))
		if again.status != http.StatusOK || again.body["authorization_details"] != nil {
			t.Errorf("after the type was removed: %v", again.body)
		}
	})
}

func TestAuthorizationDetailsAreAlwaysAskedFor(t *testing.T) { // one payment that was allowed is no leave for the next
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.payments(t), h.person(t)
		b.consent(t, c)
		v := c.params("scope", "openid", "authorization_details", "["+paymentDetail+"]")
		b.allow(t, h, v)
		b.allow(t, h, v)
		v.Set("prompt", "none")
		if q := b.authorize(t, h, v); q.Get("error") != "consent_required" {
			t.Errorf("without asking: %v", q)
		}
	})
}

func TestAuthorizationDetailsNeverWiden(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.payments(t), h.person(t)
		v := c.params("scope", "offline_access", "authorization_details", "["+paymentDetail+"]")
		form := exchangeForm(b.allow(t, h, v).Get("code"))
		form.Set("authorization_details", "["+strings.Replace(paymentDetail, "12.50", "1250", 1)+"]")
		wantError(t, h.post(t, "/token", c, form), 400, "invalid_authorization_details")
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "authorization_details": {"[" + paymentDetail + "]"}}), 400, "invalid_authorization_details")
	})
}

func TestAuthorizationDetailsThatAreNotOfTheirType(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.payments(t), h.person(t)
		stranger := h.client(t, nil)
		for name, raw := range map[string]string{
			"not JSON": "[", "no list": paymentDetail, "empty": "[]", "no type": `[{"creditor":"x","amount":{"value":"1"}}]`, "unknown type": `[{"type":"other"}]`,
			"hidden member":       `[{"type":"payment","creditor":"x","amount":{"value":"1"},"and":"everything"}]`,
			"member stands twice": `[{"type":"payment","creditor":"x","creditor":"y","amount":{"value":"1"}}]`,
			"missing":             `[{"type":"payment","amount":{"value":"1"}}]`,
			"wrong type":          `[{"type":"payment","creditor":["x"],"amount":{"value":"1"}}]`,
			"not in enum":         `[{"type":"payment","creditor":"x","amount":{"value":"1","currency":"XXX"}}]`,
			"text runs backwards": `[{"type":"payment","creditor":"x\u202e","amount":{"value":"1"}}]`,
			"too long":            `[{"type":"payment","creditor":"` + strings.Repeat("x", 41) + `","amount":{"value":"1"}}]`,
			"case of a member":    `[{"type":"payment","Creditor":"x","amount":{"value":"1"}}]`,
		} {
			if q := b.authorize(t, h, c.params("authorization_details", raw)); q.Get("error") != "invalid_authorization_details" {
				t.Errorf("%s: %v", name, q)
			}
		}
		if q := b.authorize(t, h, stranger.params("authorization_details", "["+paymentDetail+"]")); q.Get("error") != "invalid_authorization_details" {
			t.Errorf("a client that is not registered for it: %v", q)
		}
	})
}

func TestDetailsTypeIsChecked(t *testing.T) {
	t.Parallel()
	object := &Schema{Type: "object", Properties: map[string]*Schema{"a": {Type: "string"}}}
	deep := &Schema{Type: "string"}
	for range maxSchemaDepth {
		deep = &Schema{Type: "array", Items: deep}
	}
	words := map[string]string{"en": "do {a}"}
	for name, d := range map[string]DetailsType{
		"no type": {Schema: object, Words: words}, "no schema": {Type: "x", Words: words}, "no words": {Type: "x", Schema: object},
		"words of nothing": {Type: "x", Schema: object, Words: map[string]string{"en": "do {b}"}},
		"too deep":         {Type: "x", Schema: &Schema{Type: "object", Properties: map[string]*Schema{"a": deep}}, Words: words},
		"no object":        {Type: "x", Schema: &Schema{Type: "string"}, Words: map[string]string{"en": "x"}},
	} {
		if err := d.Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
	if err := (DetailsType{Type: "x", Schema: object, Words: words}).Validate(); err != nil {
		t.Error(err)
	}
}

// FuzzAuthorizationDetails shows that whatever is accepted is accepted again in the form that is kept.
func FuzzAuthorizationDetails(f *testing.F) {
	for _, seed := range []string{"[" + paymentDetail + "]", "[]", "[{}]", `[{"type":"payment","creditor":"\u0000","amount":{"value":"1"}}]`, `[null]`, `[[[[`} {
		f.Add(seed)
	}
	h := newHarness(f, dbtest.OpenSQLite(f), cache.NewMemory(nil))
	c := h.payments(f)
	client := must(h.Clients.registration(f.Context(), c.ID))
	f.Fuzz(func(t *testing.T, raw string) {
		list, err := h.parseDetails(t.Context(), client, raw)
		for _, one := range list {
			again, err := h.parseDetails(t.Context(), client, "["+string(one)+"]")
			if err != nil || len(again) != 1 || string(again[0]) != string(one) {
				t.Errorf("%s became %s: %v", one, again, err)
			}
		}
		if err != nil && list != nil {
			t.Errorf("%q: both %v and %v", raw, list, err)
		}
	})
}
