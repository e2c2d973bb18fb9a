package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// waiting registers an app for devices and lets one of them ask; it returns the codes.
func (w *world) waiting(t testing.TB) (app oauth.Client, userCode, deviceCode string) {
	t.Helper()
	app = w.app(t, func(c *oauth.Client) {
		c.Name, c.RedirectURIs, c.GrantTypes = "Living-room TV", nil, []string{oauth.GrantDeviceCode}
	})
	p := w.browser(t).roundTrip(http.MethodPost, "/device_authorization", url.Values{"client_id": {app.ID}, "scope": {"openid email"}}, nil)
	var answer struct {
		UserCode   string `json:"user_code"`
		DeviceCode string `json:"device_code"`
	}
	if err := json.Unmarshal([]byte(p.body), &answer); err != nil || answer.UserCode == "" {
		t.Fatalf("device authorization: %d %s", p.status, p.body)
	}
	return app, answer.UserCode, answer.DeviceCode
}

// poll gives the status of one request for tokens.
func (w *world) poll(t testing.TB, app oauth.Client, deviceCode string) page {
	t.Helper()
	return w.browser(t).roundTrip(http.MethodPost, "/token", url.Values{
		"grant_type": {oauth.GrantDeviceCode}, "device_code": {deviceCode}, "client_id": {app.ID},
	}, nil)
}

func TestDeviceIsConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	app, userCode, deviceCode := w.waiting(t)
	b := w.browser(t)
	p := b.press(b.get("/device"), "device-submit", map[string]string{"user_code": strings.ToLower(userCode)})
	p = b.press(p, "login-submit", map[string]string{"email": alice, "password": password})
	if block := textOf(p.id("consent-device")); !strings.Contains(block, userCode) || !strings.Contains(block, "Firefox on Linux") {
		t.Errorf("the consent page says of the device: %q", block)
	}
	if p = b.press(p, "consent-allow", nil); p.id("device-done") == nil {
		t.Fatalf("allowing led to %s", p.url)
	}
	if p := w.poll(t, app, deviceCode); p.status != http.StatusOK {
		t.Errorf("the device got %d %s", p.status, p.body)
	}
}

func TestDeviceIsTurnedAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	app, userCode, deviceCode := w.waiting(t)
	p := b.press(b.get("/device?user_code="+userCode), "device-submit", nil)
	if p = b.press(p, "consent-deny", nil); p.id("device-done") == nil {
		t.Fatalf("refusing led to %s", p.url)
	}
	if p := w.poll(t, app, deviceCode); p.status != http.StatusBadRequest || !strings.Contains(p.body, "access_denied") {
		t.Errorf("the device got %d %s", p.status, p.body)
	}
}

func TestLinkWithADeviceCodeDecidesNothing(t *testing.T) { // device-code phishing, RFC 8628 §5.4
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	app, userCode, deviceCode := w.waiting(t)
	b.get("/device?user_code=" + userCode)
	if p := w.poll(t, app, deviceCode); !strings.Contains(p.body, "authorization_pending") {
		t.Errorf("the device got %d %s", p.status, p.body)
	}
}

func TestGuessingDeviceCodesIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	for i := range deviceCodeTries + 1 {
		p := b.press(b.get("/device"), "device-submit", map[string]string{"user_code": "BBBB-CCCC"})
		want := http.StatusUnprocessableEntity
		if i == deviceCodeTries {
			want = http.StatusTooManyRequests
		}
		if p.status != want {
			t.Fatalf("try %d: status %d, want %d", i+1, p.status, want)
		}
	}
}
