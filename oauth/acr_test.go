package oauth

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

func TestDefaultACRValues(t *testing.T) {
	t.Parallel()
	base := Client{ID: "x", Name: "X", RedirectURIs: []string{testRedirect}, RequirePKCE: true}.WithDefaults()
	for values, ok := range map[string]bool{
		"": true, "urn:gatehouse:pwd": true, "urn:gatehouse:phr urn:gatehouse:mfa": true, "urn:gatehouse:pwd urn:gatehouse:mfa urn:gatehouse:phr": true,
		"mfa": false, "urn:gatehouse:mfa urn:other:gold": false, "urn:gatehouse:mfa urn:gatehouse:mfa": false, "URN:GATEHOUSE:MFA": false,
	} {
		c := base
		c.DefaultACRValues = strings.Fields(values)
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%q: error %v, want valid %v", values, err, ok)
		}
	}
	c := base
	c.DefaultACRValues = []string{""}
	if err := c.Validate(); err == nil {
		t.Error("an empty class is valid")
	}
}

// The least of a list is enough; an app can ask for more than its record says, and never for less than the server's policy.
func TestAttackPolicyTalkedDown(t *testing.T) {
	t.Parallel()
	const pwd, mfa, phr = identity.ACRPassword, identity.ACRMFA, identity.ACRPhishingResistant
	for _, test := range []struct {
		server string
		client []string
		asked  string
		want   string
	}{
		{"", nil, "", ""},
		{"", []string{phr, mfa}, "", mfa},
		{mfa, []string{pwd}, "", mfa},
		{mfa, []string{phr}, pwd, phr},
		{pwd, []string{mfa}, phr, phr},
		{phr, nil, pwd + " " + mfa, phr},
		{mfa, nil, "urn:other:gold", mfa},
		{"", nil, phr + " " + pwd, pwd},
	} {
		s := &Server{Config: Config{SignInPolicy: test.server}}
		req := &authorization{form: map[string][]string{"acr_values": {test.asked}}, client: &registration{Client: Client{SignInWishes: SignInWishes{DefaultACRValues: test.client}}}}
		if got, err := s.demandedACR(req); err != nil || got != test.want {
			t.Errorf("policy %q, client %q, asked %q: got %q %v, want %q", test.server, test.client, test.asked, got, err, test.want)
		}
	}
}

// What was signed in for before the policy got stricter ends with the next refresh, whether the server's or the client's did; who has
// proven enough by then is not disturbed.
func TestAttackRefreshPastStricterPolicy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		weak, strong := h.person(t), h.person(t)
		var err error
		strong.token, strong.session, err = h.people.StartSession(t.Context(), strong.user.ID, []string{identity.AMRPassword, identity.AMROTP, identity.AMRMFA}, identity.Device{Address: netip.MustParseAddr("192.0.2.1")}, strong.token, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := weak.tokens(t, c).str("refresh_token"), strong.tokens(t, c).str("refresh_token")
		// The app that asked for less than was reached is told less, and what was reached counts.
		asked := strong.tokens(t, c, "acr_values", identity.ACRPassword)
		if _, id := claimsOf(t, asked.str("id_token")); id["acr"] != identity.ACRPassword {
			t.Errorf("acr %v", id["acr"])
		}
		first := h.refreshToken(t, c, a)
		if first.status != http.StatusOK {
			t.Fatalf("before: %d %v", first.status, first.body)
		}
		changed := c.Client
		changed.DefaultACRValues = []string{identity.ACRMFA}
		if err := h.Clients.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.refreshToken(t, c, first.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
		for _, token := range []string{b, asked.str("refresh_token")} {
			if got := h.refreshToken(t, c, token); got.status != http.StatusOK {
				t.Errorf("two factors: %d %v", got.status, got.body)
			}
		}
		other := h.client(t, nil)
		token := strong.tokens(t, other).str("refresh_token")
		h.SignInPolicy = identity.ACRPhishingResistant
		wantError(t, h.refreshToken(t, other, token), http.StatusBadRequest, "invalid_grant")
	})
}
