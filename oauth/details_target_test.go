package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
)

func detailsOf(t testing.TB, a answer) (names []string) {
	t.Helper()
	list, _ := a.body["authorization_details"].([]any)
	for _, one := range list {
		object, _ := one.(map[string]any)
		names = append(names, fmt.Sprint(object["creditor"]))
	}
	return names
}

func payTo(creditor string, locations ...string) string {
	b := must(json.Marshal(map[string]any{"type": "payment", "creditor": creditor, "amount": map[string]string{"value": "1"}, "locations": locations}))
	if len(locations) == 0 {
		return fmt.Sprintf(`{"type":"payment","creditor":%q,"amount":{"value":"1"}}`, creditor)
	}
	return string(b)
}

func list(objects ...string) string { return "[" + strings.Join(objects, ",") + "]" }

func TestAuthorizationDetailsAtDevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.payments(t)
		c, b := h.client(t, func(c *Client) { ofDevice(c); c.DetailsTypes = []string{"payment"} }), h.person(t)
		ask := func(raw string) answer {
			return h.post(t, "/device_authorization", c, url.Values{"scope": {"openid"}, "authorization_details": {raw}})
		}
		for name, raw := range map[string]string{"no list": payTo("x"), "unknown type": `[{"type":"other"}]`, "not of its type": `[{"type":"payment"}]`} {
			wantError(t, ask(raw), 400, "invalid_authorization_details")
			_ = name
		}
		asked := ask(list(payTo("A"), payTo("B")))
		id, err := h.BeginDevice(t.Context(), asked.str("user_code"))
		if err != nil {
			t.Fatal(err)
		}
		if in, err := h.Interaction(t.Context(), id, b.user.ID); err != nil || len(in.Details) != 2 {
			t.Fatalf("the consent page shows %+v, %v", in.Details, err)
		}
		b.decide(t, asked.str("user_code"), true)
		h.advanceClock(pollInterval)
		form := url.Values{"grant_type": {GrantDeviceCode}, "device_code": {asked.str("device_code")}, "authorization_details": {list(payTo("B"))}}
		got := h.post(t, "/token", c, form)
		if !cmp.Equal(detailsOf(t, got), []string{"B"}) {
			t.Errorf("narrowed at the token endpoint: %v", got.body)
		}
		// What is not there any more when the person decides is not asked for.
		asked = ask(list(payTo("A")))
		if err := h.DetailsTypes().Delete(t.Context(), "payment"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.BeginDevice(t.Context(), asked.str("user_code")); err == nil {
			t.Error("a type that is gone is asked for")
		}
	})
}

func TestAuthorizationDetailsPushed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.payments(t), h.person(t)
		wantError(t, h.post(t, "/par", c, c.params("authorization_details", `[{"type":"payment"}]`)), 400, "invalid_authorization_details")
		pushed := h.post(t, "/par", c, c.params("authorization_details", list(payTo("A"))))
		q := b.allow(t, h, url.Values{"client_id": {c.ID}, "request_uri": {pushed.str("request_uri")}})
		if got := h.exchangeCode(t, c, q.Get("code")); !cmp.Equal(detailsOf(t, got), []string{"A"}) {
			t.Errorf("got %v", got.body)
		}
	})
}

// What is meant for one API is learned by no other (RFC 9396 §11.4).
func TestAuthorizationDetailsOfAnotherAPI(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.payments(t)
		h.api(t, ordersAPI, nil, "read")
		h.api(t, mailAPI, nil, "read")
		h.api(t, openAPI, nil, "read")
		c, b := h.client(t, func(c *Client) { c.DetailsTypes, c.Audiences = []string{"payment"}, []string{ordersAPI, mailAPI} }), h.person(t)
		for name, raw := range map[string]string{
			"an API of others": list(payTo("x", openAPI)), "no API": list(payTo("x", "https://nowhere.example.test")), "this server": list(payTo("x", testIssuer)),
			"no list": `[{"type":"payment","creditor":"x","amount":{"value":"1"},"locations":"` + ordersAPI + `"}]`,
			"numbers": `[{"type":"payment","creditor":"x","amount":{"value":"1"},"locations":[1]}]`,
			"empty":   `[{"type":"payment","creditor":"x","amount":{"value":"1"},"locations":[]}]`,
			"many":    list(payTo("x", slices.Repeat([]string{ordersAPI}, maxResources+1)...)),
		} {
			if q := b.authorize(t, h, c.params("authorization_details", raw)); q.Get("error") != "invalid_authorization_details" {
				t.Errorf("%s: %v", name, q)
			}
		}
		if q := b.authorize(t, h, with(c.params("authorization_details", list(payTo("x", mailAPI))), "resource", ordersAPI)); q.Get("error") != "invalid_authorization_details" {
			t.Errorf("for none of the resources: %v", q)
		}
		v := with(c.params("scope", "offline_access read", "authorization_details", list(payTo("orders", ordersAPI), payTo("mail", mailAPI), payTo("any"))), "resource", ordersAPI, mailAPI)
		q := b.allow(t, h, v)
		got := h.post(t, "/token", c, with(exchangeForm(q.Get("code")), "resource", ordersAPI))
		if !cmp.Equal(detailsOf(t, got), []string{"orders", "any"}) {
			t.Errorf("for orders: %v", got.body)
		}
		_, claims := claimsOf(t, got.str("access_token"))
		if list, _ := claims["authorization_details"].([]any); len(list) != 2 {
			t.Errorf("access token %v", claims)
		}
		got = h.post(t, "/token", c, with(refreshForm(got.str("refresh_token")), "resource", mailAPI))
		if !cmp.Equal(detailsOf(t, got), []string{"mail", "any"}) {
			t.Errorf("for mail: %v", got.body)
		}
		// The operator says for which APIs a type is.
		kind := must(h.DetailsTypes().Get(t.Context(), "payment"))
		kind.APIs = []string{ordersAPI}
		if err := h.DetailsTypes().Update(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		got = h.post(t, "/token", c, with(refreshForm(got.str("refresh_token")), "resource", mailAPI))
		if got.status != http.StatusOK || len(detailsOf(t, got)) != 0 {
			t.Errorf("for mail, after the type was bound to orders: %v", got.body)
		}
		for api, want := range map[string]int{ordersAPI: 1, mailAPI: 0} {
			a := must(h.people.Resource(t.Context(), api))
			m := h.do(t, httptest.NewRequest(http.MethodGet, "/resource-metadata/"+a.ID, nil))
			if types, _ := m.body["authorization_details_types_supported"].([]any); len(types) != want {
				t.Errorf("metadata of %s: %v", api, m.body)
			}
		}
	})
}

func TestSchemaThatCannotBeCheckedInBoundedTime(t *testing.T) {
	t.Parallel()
	words := map[string]string{"en": "do it"}
	wide := &Schema{Type: "object", Properties: map[string]*Schema{}}
	for i := range maxSchemaMembers {
		inner := &Schema{Type: "object", Properties: map[string]*Schema{}}
		for j := range 4 {
			inner.Properties[fmt.Sprint(j)] = &Schema{Type: "boolean"}
		}
		wide.Properties[fmt.Sprint(i)] = inner
	}
	property := func(name string, p *Schema) *Schema {
		return &Schema{Type: "object", Properties: map[string]*Schema{name: p}}
	}
	for name, schema := range map[string]*Schema{
		"too many values": wide, "negative length": property("a", &Schema{Type: "string", MaxLength: -1}), "negative items": property("a", &Schema{Type: "array", MaxItems: -1, Items: &Schema{Type: "string"}}),
		"endless enum":    property("a", &Schema{Type: "string", Enum: make([]string, maxSchemaMembers+1)}),
		"enum backwards":  property("a", &Schema{Type: "string", Enum: []string{"a\u202e"}}),
		"name backwards":  property("a\u202e", &Schema{Type: "string"}),
		"own locations":   property("locations", &Schema{Type: "string"}),
		"array of what":   property("a", &Schema{Type: "array"}),
		"property of nil": property("a", nil),
	} {
		if err := (DetailsType{Type: "x", Schema: schema, Words: words}).Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
	for _, raw := range []string{`{"$ref":"https://evil.example/schema"}`, `{"type":"string","pattern":"(a+)+$"}`, `{"type":"object","patternProperties":{}}`} {
		d := json.NewDecoder(strings.NewReader(raw)) // as the command reads it
		d.DisallowUnknownFields()
		if err := d.Decode(&Schema{}); err == nil {
			t.Errorf("%s: taken", raw)
		}
	}
	for lang, ok := range map[string]bool{"en": true, "pt-BR": true, "<script>": false, "": false, "english": false} {
		d := DetailsType{Type: "x", Schema: property("a", &Schema{Type: "string"}), Words: map[string]string{"en": "x", lang: "x"}}
		if err := d.Validate(); (err == nil) != ok {
			t.Errorf("language %q: %v, want valid %v", lang, err, ok)
		}
	}
	number := &Schema{Type: "integer"}
	for value, ok := range map[float64]bool{1: true, -5: true, 1.5: false, 1 << 53: true, 1<<53 + 2: false, 1e300: false} {
		if number.valid(value) != ok {
			t.Errorf("%g: want valid %v", value, ok)
		}
	}
}

func TestProtectedResourceMetadataIsWhole(t *testing.T) {
	t.Parallel()
	api := identity.API{Identifier: ordersAPI, Name: "Orders", Resource: identity.Resource{
		Scopes: []identity.APIScope{{Name: "read"}}, DPoP: true, Certificate: true,
	}}
	types := []DetailsType{{Type: "payment", APIs: []string{ordersAPI}}, {Type: "other", APIs: []string{mailAPI}}, {Type: "any"}}
	var got map[string]any
	if err := json.Unmarshal(must(json.Marshal(NewResourceMetadata(testIssuer, api, types))), &got); err != nil {
		t.Fatal(err)
	}
	algs := []any{}
	for _, alg := range dpopAlgs {
		algs = append(algs, alg)
	}
	want := map[string]any{
		"resource": ordersAPI, "authorization_servers": []any{testIssuer}, "resource_name": "Orders", "scopes_supported": []any{"read"},
		"bearer_methods_supported": []any{"header"}, "dpop_signing_alg_values_supported": algs, "dpop_bound_access_tokens_required": true,
		"tls_client_certificate_bound_access_tokens": true, "authorization_details_types_supported": []any{"payment"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
