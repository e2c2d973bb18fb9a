package oauth

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func ofDevice(c *Client) {
	c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantDeviceCode, GrantRefreshToken}, nil, nil
	c.AuthMethod = AuthNone
}

// device asks as a device does and returns what it was told.
func (h *harness) device(t testing.TB, c registered, scope string) answer {
	t.Helper()
	a := h.post(t, "/device_authorization", c, url.Values{"scope": {scope}})
	if a.status != http.StatusOK {
		t.Fatalf("device authorization: %d %v", a.status, a.body)
	}
	return a
}

func (h *harness) poll(t testing.TB, c registered, code string) answer {
	t.Helper()
	h.advanceClock(deviceInterval)
	return h.post(t, "/token", c, url.Values{"grant_type": {GrantDeviceCode}, "device_code": {code}})
}

// decide types a device's code and allows or refuses what it asks for.
func (b *browser) decide(t testing.TB, userCode string, allow bool) {
	t.Helper()
	id, err := b.h.BeginDevice(t.Context(), userCode)
	if err != nil {
		t.Fatalf("type the code: %v", err)
	}
	w := b.get(b.h, "/authorize/resume?i="+id)
	if to := w.Header().Get("Location"); !strings.HasPrefix(to, "/consent?i=") {
		t.Fatalf("typing the code led to %s, want the consent page; %s", to, w.Body)
	}
	if allow {
		err = b.h.Approve(t.Context(), id, b.session)
	} else {
		err = b.h.Deny(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	if to := b.get(b.h, "/authorize/resume?i="+id).Header().Get("Location"); !strings.HasPrefix(to, deviceDone) {
		t.Fatalf("the decision led to %s, want %s", to, deviceDone)
	}
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid email offline_access")
		for name, want := range map[string]any{"expires_in": float64(600), "interval": float64(5), "verification_uri": h.Site.URL("/device")} {
			if asked.body[name] != want {
				t.Errorf("%s = %v, want %v", name, asked.body[name], want)
			}
		}
		if want := h.Site.URL("/device?user_code=" + asked.str("user_code")); asked.str("verification_uri_complete") != want {
			t.Errorf("verification_uri_complete %s, want %s", asked.str("verification_uri_complete"), want)
		}
		wantError(t, h.poll(t, c, asked.str("device_code")), 400, "authorization_pending")
		b.decide(t, strings.ToLower(strings.ReplaceAll(asked.str("user_code"), "-", " ")), true)
		got := h.poll(t, c, asked.str("device_code"))
		if got.status != http.StatusOK {
			t.Fatalf("poll after the decision: %d %v", got.status, got.body)
		}
		_, id := claimsOf(t, got.str("id_token"))
		if id["sub"] != b.user.ID || id["aud"] != c.ID || id["at_hash"] == nil || id["sid"] != b.session.ID {
			t.Errorf("ID token %v", id)
		}
		if a := h.userinfoAnswer(t, got.str("access_token")); a.str("email") != b.user.Email {
			t.Errorf("userinfo %v", a.body)
		}
		next := h.refreshToken(t, c, got.str("refresh_token"))
		if next.status != http.StatusOK {
			t.Fatalf("refresh: %v", next.body)
		}
		if apps, err := h.Apps(t.Context(), b.user.ID); err != nil || len(apps) != 1 {
			t.Errorf("apps with access: %v, %v; want this one", apps, err)
		}
	})
}

func TestDeviceRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid")
		b.decide(t, asked.str("user_code"), false)
		wantError(t, h.poll(t, c, asked.str("device_code")), 400, "access_denied")
		if _, err := h.BeginDevice(t.Context(), asked.str("user_code")); err == nil {
			t.Error("the code is good for a second decision")
		}
	})
}

func TestDeviceConsentIsNeverSkipped(t *testing.T) { // device-code phishing rides on consent that was given before
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, func(c *Client) { ofDevice(c); c.FirstParty = true }), h.person(t)
		b.consent(t, c)
		id, err := h.BeginDevice(t.Context(), h.device(t, c, "openid").str("user_code"))
		if err != nil {
			t.Fatal(err)
		}
		if to := b.get(h, "/authorize/resume?i="+id).Header().Get("Location"); !strings.HasPrefix(to, "/consent?") {
			t.Errorf("led to %s, want the consent page", to)
		}
		in, err := h.Interaction(t.Context(), id, b.user.ID)
		if err != nil || in.Device == nil || len(in.Device.UserCode) != 9 {
			t.Errorf("the consent page learns nothing of the device: %+v, %v", in.Device, err)
		}
	})
}

func TestDeviceScopesAtThePollAreThoseApproved(t *testing.T) { // authentik CVE-2024-52287
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid")
		b.decide(t, asked.str("user_code"), true)
		h.advanceClock(deviceInterval)
		a := h.post(t, "/token", c, url.Values{"grant_type": {GrantDeviceCode}, "device_code": {asked.str("device_code")}, "scope": {"openid write"}})
		if _, access := claimsOf(t, a.str("access_token")); access["scope"] != "openid" {
			t.Errorf("scope %v, want openid", access["scope"])
		}
	})
}

func TestDeviceCodeAttacks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, other, b := h.client(t, ofDevice), h.client(t, ofDevice), h.person(t)

		asked := h.device(t, c, "openid offline_access")
		code := asked.str("device_code")
		b.decide(t, asked.str("user_code"), true)
		wantError(t, h.poll(t, other, code), 400, "invalid_grant") // redeemed by another client
		wantError(t, h.poll(t, c, asked.str("user_code")), 400, "invalid_grant")
		got := h.poll(t, c, code)
		if got.status != http.StatusOK {
			t.Fatalf("the foreign try spoilt the code: %v", got.body)
		}
		wantError(t, h.poll(t, c, code), 400, "invalid_grant") // replayed: what the first one got ends
		wantError(t, h.refreshToken(t, c, got.str("refresh_token")), 400, "invalid_grant")
		if h.userinfoAnswer(t, got.str("access_token")).status != http.StatusUnauthorized {
			t.Error("the access token of a replayed device code lives on")
		}

		late := h.device(t, c, "openid")
		h.advanceClock(deviceLife + time.Second)
		wantError(t, h.poll(t, c, late.str("device_code")), 400, "expired_token")
		if _, err := h.BeginDevice(t.Context(), late.str("user_code")); err == nil {
			t.Error("an expired code may be typed")
		}

		hasty := h.device(t, c, "openid").str("device_code")
		wantError(t, h.poll(t, c, hasty), 400, "authorization_pending")
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {GrantDeviceCode}, "device_code": {hasty}}), 400, "slow_down")

		wantError(t, h.post(t, "/device_authorization", c, url.Values{"scope": {"openid admin"}}), 400, "invalid_scope")
		wantError(t, h.post(t, "/device_authorization", h.client(t, nil), url.Values{"scope": {"openid"}}), 400, "unauthorized_client")
		wantError(t, h.post(t, "/device_authorization", registered{}, url.Values{"client_id": {"nobody"}}), 401, "invalid_client")
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {GrantDeviceCode}}), 400, "invalid_request")
	})
}

func TestDeviceOfAPersonWhoEndedTheSessionGetsNothing(t *testing.T) { // revocation race
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid offline_access")
		b.decide(t, asked.str("user_code"), true)
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.poll(t, c, asked.str("device_code")), 400, "invalid_grant")
	})
}

func TestConcurrentPollsHaveOneWinner(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid")
		b.decide(t, asked.str("user_code"), true)
		h.advanceClock(deviceInterval)
		var wins sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if a := h.post(t, "/token", c, url.Values{"grant_type": {GrantDeviceCode}, "device_code": {asked.str("device_code")}}); a.status == http.StatusOK {
					wins.Store(i, true)
				}
			})
		}
		wg.Wait()
		n := 0
		wins.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d polls got tokens, want 1", n)
		}
	})
}

func TestDeviceParameterCannotBeSmuggledIntoARequest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, device, b := h.client(t, nil), h.client(t, ofDevice), h.person(t)
		key, ok, err := h.Cache.Get(t.Context(), userCodeKey(strings.ReplaceAll(h.device(t, device, "openid").str("user_code"), "-", "")))
		if err != nil || !ok {
			t.Fatal(err)
		}
		b.consent(t, c)
		if q := b.authorize(t, h, c.params(deviceParameter, string(key))); q.Get("code") == "" {
			t.Errorf("the parameter was heard: %v", q)
		}
	})
}

func FuzzUserCode(f *testing.F) {
	for _, s := range []string{"WDJB-MJHT", "wdjbmjht", " w d j b\u2011m j h t", "AEIOU-AEI", "", "\xff", "ſſſſſſſſ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := normalUserCode(typed)
		if !ok {
			return
		}
		if again, ok := normalUserCode(showUserCode(code)); !ok || again != code {
			t.Errorf("%q became %q and then %q", typed, code, again)
		}
	})
}

func TestNewUserCodes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		code := newUserCode()
		if normal, ok := normalUserCode(showUserCode(code)); !ok || normal != code || seen[code] {
			t.Fatalf("code %q", code)
		}
		seen[code] = true
	}
}
