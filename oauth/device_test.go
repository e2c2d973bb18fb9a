package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
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
	h.advanceClock(pollInterval)
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
		if id["sub"] != b.user.ID || id["aud"] != c.ID || id["at_hash"] == nil || id["sid"] == nil || id["sid"] == b.session.ID {
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
		h.advanceClock(pollInterval)
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
		h.advanceClock(decoupledLife + time.Second)
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

// A device is a sign-in of its own: it neither goes with the browser in which the person decided, nor stays when they throw everybody out.
func TestDeviceOutlivesTheBrowserThatLetItIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for name, tt := range map[string]struct {
			end  func(b *browser, c registered) error
			last bool // the device goes on
		}{
			"signed out": {func(b *browser, _ registered) error { return h.people.EndSession(t.Context(), b.user.ID, b.session.ID) }, true},
			"other browsers out": {func(b *browser, _ registered) error {
				_, err := h.people.EndSessions(t.Context(), b.user.ID, b.session.ID)
				return err
			}, false},
			"this was not me": {func(b *browser, _ registered) error {
				_, err := h.people.Disown(t.Context(), b.user.ID, "")
				return err
			}, false},
			"everything signed out": {func(b *browser, _ registered) error {
				_, err := h.people.EndSessions(t.Context(), b.user.ID, "")
				return err
			}, false},
			"access taken away":      {func(b *browser, c registered) error { return h.Withdraw(t.Context(), b.user.ID, c.ID) }, false},
			"new password by a link": {func(b *browser, _ registered) error { return h.resetPassword(t, b) }, false},
		} {
			c, b := h.client(t, ofDevice), h.person(t)
			asked := h.device(t, c, "openid email offline_access")
			b.decide(t, asked.str("user_code"), true)
			got := h.poll(t, c, asked.str("device_code"))
			if got.status != http.StatusOK {
				t.Fatalf("%s: poll: %v", name, got.body)
			}
			h.advanceClock(time.Second)
			if err := tt.end(b, c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := http.StatusOK
			if !tt.last {
				want = http.StatusUnauthorized
			}
			if a := h.userinfoAnswer(t, got.str("access_token")); a.status != want {
				t.Errorf("%s: userinfo %d, want %d", name, a.status, want)
			}
			if a := h.refreshToken(t, c, got.str("refresh_token")); (a.status == http.StatusOK) != tt.last {
				t.Errorf("%s: refresh %d %v, want it to go on: %v", name, a.status, a.body, tt.last)
			}
		}
	})
}

func (h *harness) resetPassword(t testing.TB, b *browser) error {
	t.Helper()
	token, err := h.people.NewLink(t.Context(), b.user.ID, identity.Reset, b.user.Email)
	if err != nil {
		return err
	}
	_, err = h.people.ResetPassword(t.Context(), token, "another-lantern-43-meadow")
	return err
}

// The app hears that its device is signed out, under the sid of its ID token.
func TestAppHearsThatItsDeviceIsSignedOut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		app := newReceiver(t)
		c := h.client(t, func(c *Client) { ofDevice(c); app.hears(c) })
		b := h.person(t)
		asked := h.device(t, c, "openid offline_access")
		b.decide(t, asked.str("user_code"), true)
		got := h.poll(t, c, asked.str("device_code"))
		_, id := claimsOf(t, got.str("id_token"))
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(time.Second)
		h.deliver(t)
		if got := app.got(); len(got) != 0 {
			t.Errorf("told of the browser: %v", got)
		}
		if _, err := h.people.EndSessions(t.Context(), b.user.ID, "another"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.people.Disown(t.Context(), b.user.ID, ""); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(time.Second)
		h.deliver(t)
		told := app.got()
		if len(told) != 1 {
			t.Fatalf("told %d times, want once", len(told))
		}
		if _, out := claimsOf(t, told[0]); out["sid"] != id["sid"] || out["sub"] != b.user.ID {
			t.Errorf("told %v, want the sid %v", out, id["sid"])
		}
	})
}

// No two devices may show one code: who types it would let a stranger's device in.
func TestUserCodeOfAnotherDeviceIsNotGivenTwice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		first := h.device(t, h.client(t, ofDevice), "openid")
		code := strings.ReplaceAll(first.str("user_code"), "-", "")
		if again, err := h.Cache.PutNew(t.Context(), userCodeKey(code), []byte("stranger"), decoupledLife); again || err != nil {
			t.Errorf("claimed again: %v, %v", again, err)
		}
		if _, err := h.BeginDevice(t.Context(), code); err != nil {
			t.Errorf("the code leads nowhere: %v", err)
		}
	})
}

// cutShort forgets the requests of clients that hang up: what follows the one decisive step does not happen.
type cutShort struct {
	cache.Cache
	on atomic.Bool
}

func (c *cutShort) Delete(ctx context.Context, key string) error {
	if c.on.Load() {
		return context.Canceled
	}
	return c.Cache.Delete(ctx, key)
}

// A person's browser hangs up while the answer is written: the device has it all the same, and nobody can decide otherwise.
func TestDecisionCutShortIsNotLost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		short := &cutShort{Cache: h.Cache}
		h.Cache = short
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid")
		id, err := h.BeginDevice(t.Context(), asked.str("user_code"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		short.on.Store(true)
		b.get(h, "/authorize/resume?i="+id)
		short.on.Store(false)
		if _, err := h.BeginDevice(t.Context(), asked.str("user_code")); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("the code is good for a second decision: %v", err)
		}
		if a := h.poll(t, c, asked.str("device_code")); a.status != http.StatusOK {
			t.Errorf("the device got %v", a.body)
		}
	})
}

func TestConcurrentPollsHaveOneWinner(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		asked := h.device(t, c, "openid")
		b.decide(t, asked.str("user_code"), true)
		h.advanceClock(pollInterval)
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
		if q := b.authorize(t, h, c.params(decoupledParameter, string(key))); q.Get("code") == "" {
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
