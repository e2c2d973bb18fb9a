package oauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// ofCallCentre is a client that asks people without a browser.
func ofCallCentre(c *Client) {
	c.Name, c.GrantTypes, c.RedirectURIs, c.ResponseTypes = "Call centre", []string{GrantCIBA, GrantRefreshToken}, nil, nil
}

// ask asks a person something as a client does.
func (h *harness) askPerson(t testing.TB, c registered, edits ...string) answer {
	t.Helper()
	form := url.Values{"scope": {"openid email offline_access"}}
	for i := 0; i < len(edits); i += 2 {
		form.Set(edits[i], edits[i+1])
	}
	return h.post(t, "/bc-authorize", c, form)
}

// asked is askPerson where it must work.
func (h *harness) asked(t testing.TB, c registered, edits ...string) string {
	t.Helper()
	a := h.askPerson(t, c, edits...)
	if a.status != http.StatusOK || a.str("auth_req_id") == "" {
		t.Fatalf("ask: %d %v", a.status, a.body)
	}
	return a.str("auth_req_id")
}

func (h *harness) fetch(t testing.TB, c registered, id string) answer {
	t.Helper()
	h.advanceClock(pollInterval)
	return h.post(t, "/token", c, url.Values{"grant_type": {GrantCIBA}, "auth_req_id": {id}})
}

// waiting lists what waits for a person.
func (b *browser) waiting(t testing.TB) []Request {
	t.Helper()
	list, err := b.h.Waiting(t.Context(), b.user.ID)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// grant lets the only waiting request through, by way of the dispatcher.
func (b *browser) grant(t testing.TB) {
	t.Helper()
	list := b.waiting(t)
	if len(list) != 1 {
		t.Fatalf("%d requests wait, want 1", len(list))
	}
	id, err := b.h.BeginRequest(t.Context(), b.user.ID, list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if to := b.get(b.h, "/authorize/resume?i="+id).Header().Get("Location"); !strings.HasPrefix(to, "/consent?i=") {
		t.Fatalf("led to %s, want the consent page", to)
	}
	if err := b.h.Approve(t.Context(), id, b.session); err != nil {
		t.Fatal(err)
	}
	if to := b.get(b.h, "/authorize/resume?i="+id).Header().Get("Location"); to != requestDone+"allowed" {
		t.Fatalf("the decision led to %s", to)
	}
}

func TestRequestOfAnAppWithoutABrowser(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		var told []string
		h.SetAsked(func(_ context.Context, u identity.User, c Client) { told = append(told, u.ID+" "+c.ID) })
		a := h.askPerson(t, c, "login_hint", strings.ToUpper(b.user.Email), "binding_message", "Order 4711", "requested_expiry", "120")
		if a.status != http.StatusOK || a.body["expires_in"] != float64(120) || a.body["interval"] != float64(5) {
			t.Fatalf("ask: %d %v", a.status, a.body)
		}
		if len(told) != 1 || told[0] != b.user.ID+" "+c.ID {
			t.Errorf("told %v", told)
		}
		id := a.str("auth_req_id")
		wantError(t, h.fetch(t, c, id), 400, "authorization_pending")
		list := b.waiting(t)
		if len(list) != 1 || list[0].Message != "Order 4711" || list[0].Client.ID != c.ID {
			t.Fatalf("waiting: %+v", list)
		}
		b.grant(t)
		got := h.fetch(t, c, id)
		if got.status != http.StatusOK || got.str("refresh_token") == "" {
			t.Fatalf("tokens: %d %v", got.status, got.body)
		}
		if _, token := claimsOf(t, got.str("id_token")); token["sub"] != b.user.ID || token["aud"] != c.ID || token["at_hash"] == nil {
			t.Errorf("ID token %v", token)
		}
		if a := h.userinfoAnswer(t, got.str("access_token")); a.str("email") != b.user.Email {
			t.Errorf("userinfo %v", a.body)
		}
		if a := h.refreshToken(t, c, got.str("refresh_token")); a.status != http.StatusOK {
			t.Errorf("refresh %v", a.body)
		}
		if len(b.waiting(t)) != 0 {
			t.Error("the request still waits")
		}
		if apps, err := h.Apps(t.Context(), b.user.ID); err != nil || len(apps) != 1 {
			t.Errorf("apps with access: %v, %v; want this one", apps, err)
		}
		// The next time by the ID token.
		h.asked(t, c, "id_token_hint", got.str("id_token"))
		if len(b.waiting(t)) != 1 {
			t.Error("the ID token did not lead to the person")
		}
	})
}

func TestRequestRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.ID)
		list := b.waiting(t)
		if err := h.DenyRequest(t.Context(), b.session, list[0].ID); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.fetch(t, c, id), 400, "access_denied")
		if _, err := h.BeginRequest(t.Context(), b.user.ID, list[0].ID); !gone(err) {
			t.Errorf("decided again: %v", err)
		}
		// From the page of the decision.
		other := h.client(t, ofCallCentre)
		id = h.asked(t, other, "login_hint", b.user.ID)
		in, err := h.BeginRequest(t.Context(), b.user.ID, b.waiting(t)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Deny(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if to := b.get(h, "/authorize/resume?i="+in).Header().Get("Location"); to != requestDone+"denied" {
			t.Errorf("led to %s", to)
		}
		wantError(t, h.fetch(t, other, id), 400, "access_denied")
	})
}

// Clients pass on what strangers type: whoever is unknown, disabled, not let in or has muted the app looks like a person who does not
// answer (account enumeration).
func TestPersonWhoCannotBeAskedLooksLikeOneWhoDoesNotAnswer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, ofCallCentre)
		people := map[string]func(b *browser){
			"disabled":   func(b *browser) { _ = h.people.SetStatus(t.Context(), b.user.ID, "disabled") },
			"muted":      func(b *browser) { _ = h.MuteApp(t.Context(), b.session, c.ID) },
			"asked here": func(*browser) {},
		}
		hints := map[string]string{"unknown address": "nobody@example.test", "unknown id": "0190a5b6-0000-7000-8000-000000000000", "no address": "not an address\u00a0at all"}
		for name, change := range people {
			b := h.person(t)
			change(b)
			hints[name] = b.user.Email
		}
		for name, hint := range hints {
			a := h.askPerson(t, c, "login_hint", hint)
			if a.status != http.StatusOK || len(a.body) != 3 || a.body["expires_in"] != float64(600) {
				t.Errorf("%s: %d %v", name, a.status, a.body)
				continue
			}
			wantError(t, h.fetch(t, c, a.str("auth_req_id")), 400, "authorization_pending")
			h.advanceClock(decoupledLife)
			wantError(t, h.fetch(t, c, a.str("auth_req_id")), 400, "expired_token")
		}
	})
}

func TestPromptBombingIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() { h.asked(t, c, "login_hint", b.user.Email) })
		}
		wg.Wait()
		list := b.waiting(t)
		if len(list) != waitingOfApp {
			t.Fatalf("%d requests of one app wait, want %d", len(list), waitingOfApp)
		}
		for range waitingInAll {
			h.asked(t, h.client(t, ofCallCentre), "login_hint", b.user.Email)
		}
		if n := len(b.waiting(t)); n != waitingInAll {
			t.Errorf("%d requests wait, want %d", n, waitingInAll)
		}
		for _, one := range b.waiting(t) {
			if err := h.DenyRequest(t.Context(), b.session, one.ID); err != nil {
				t.Fatal(err)
			}
		}
		h.asked(t, c, "login_hint", b.user.Email)
		if n := len(b.waiting(t)); n != 0 {
			t.Errorf("asked again right after a refusal: %d wait", n)
		}
		h.advanceClock(2*firstCooldown + time.Second) // two refusals
		h.asked(t, c, "login_hint", b.user.Email)
		if n := len(b.waiting(t)); n != 1 {
			t.Errorf("after the time to cool down %d wait, want 1", n)
		}
		if err := h.MuteApp(t.Context(), b.session, c.ID); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(keptRequests)
		h.asked(t, c, "login_hint", b.user.Email)
		if n := len(b.waiting(t)); n != 0 {
			t.Errorf("%d requests of a muted app wait", n)
		}
		if muted, err := h.MutedApps(t.Context(), b.user.ID); err != nil || len(muted) != 1 || muted[0].ID != c.ID {
			t.Errorf("muted: %v, %v", muted, err)
		}
		if err := h.UnmuteApp(t.Context(), b.session, c.ID); err != nil {
			t.Fatal(err)
		}
		h.asked(t, c, "login_hint", b.user.Email)
		if n := len(b.waiting(t)); n != 1 {
			t.Errorf("after unmuting %d wait, want 1", n)
		}
	})
}

func TestBombingOverHoursIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		shown := 0
		h.SetAsked(func(context.Context, identity.User, Client) { shown++ })
		for range 2 * askedOfApp {
			h.asked(t, c, "login_hint", b.user.Email, "requested_expiry", "1")
			h.advanceClock(2 * time.Second)
		}
		if shown != askedOfApp {
			t.Errorf("asked %d times within an hour, want %d", shown, askedOfApp)
		}
		h.advanceClock(time.Hour)
		h.asked(t, c, "login_hint", b.user.Email)
		if shown != askedOfApp+1 {
			t.Error("not asked an hour later")
		}
		h.advanceClock(keptRequests + 2*maxRequestLife)
		if err := h.Requests().Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept, err := h.Requests().AskedOf(t.Context(), b.user.ID); err != nil || len(kept) != 0 {
			t.Errorf("kept %v, %v", kept, err)
		}
	})
}

func TestAuthReqIDOfAnotherClient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, other, b := h.client(t, ofCallCentre), h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		b.grant(t)
		wantError(t, h.fetch(t, other, id), 400, "invalid_grant")
		wantError(t, h.fetch(t, c, "invented"), 400, "invalid_grant")
		tv := h.client(t, ofDevice)
		wantError(t, h.post(t, "/token", tv, url.Values{"grant_type": {GrantDeviceCode}, "device_code": {id}}), 400, "invalid_grant")
		wantError(t, h.post(t, "/token", tv, url.Values{"grant_type": {GrantCIBA}, "auth_req_id": {id}}), 400, "unauthorized_client")
		if a := h.fetch(t, c, id); a.status != http.StatusOK {
			t.Errorf("the foreign tries spoilt the request: %v", a.body)
		}
	})
}

func TestReplayOfAuthReqID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		b.grant(t)
		got := h.fetch(t, c, id)
		wantError(t, h.fetch(t, c, id), 400, "invalid_grant")
		wantError(t, h.refreshToken(t, c, got.str("refresh_token")), 400, "invalid_grant")
		if h.userinfoAnswer(t, got.str("access_token")).status != http.StatusUnauthorized {
			t.Error("the access token of a replayed auth_req_id lives on")
		}
	})
}

func TestConcurrentPollsOfARequestHaveOneWinner(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		b.grant(t)
		h.advanceClock(pollInterval)
		var mu sync.Mutex
		wins := 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if a := h.post(t, "/token", c, url.Values{"grant_type": {GrantCIBA}, "auth_req_id": {id}}); a.status == http.StatusOK {
					mu.Lock()
					defer mu.Unlock()
					wins++
				}
			})
		}
		wg.Wait()
		if wins != 1 {
			t.Errorf("%d polls got tokens, want 1", wins)
		}
	})
}

func TestPollTooFast(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		wantError(t, h.fetch(t, c, id), 400, "authorization_pending")
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {GrantCIBA}, "auth_req_id": {id}}), 400, "slow_down")
		wantError(t, h.fetch(t, c, id), 400, "authorization_pending")
	})
}

func TestHintOfAnotherClientsIDToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		foreign := b.tokens(t, h.client(t, nil))
		names := h.client(t, func(c *Client) {
			c.GrantTypes, c.SubjectType = append(c.GrantTypes, GrantCIBA), SubjectPairwise
		})
		own := b.tokens(t, names)
		for name, a := range map[string]answer{
			"another client's": h.askPerson(t, c, "id_token_hint", foreign.str("id_token")),
			"an access token":  h.askPerson(t, c, "id_token_hint", foreign.str("access_token")),
			"no token":         h.askPerson(t, c, "id_token_hint", "x"),
			"pairwise":         h.askPerson(t, names, "id_token_hint", own.str("id_token")),
		} {
			if a.status != http.StatusBadRequest || a.str("error") != "invalid_request" {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
		if len(b.waiting(t)) != 0 {
			t.Error("the person was asked")
		}
		// A pairwise client does not find people by names that are not its own, but by the address that they gave it.
		h.asked(t, names, "login_hint", b.user.ID)
		if len(b.waiting(t)) != 0 {
			t.Error("found by the name that others know")
		}
		h.asked(t, names, "login_hint", b.user.Email)
		b.grant(t)
	})
}

func TestHintOfAnAddressThatIsNotConfirmed(t *testing.T) { // somebody has signed up with another person's address
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, ofCallCentre)
		u, err := h.people.Create(t.Context(), identity.NewUser{Email: strings.ToLower(rand.Text()) + "@example.test", Password: testPassword})
		if err != nil {
			t.Fatal(err)
		}
		h.asked(t, c, "login_hint", u.Email)
		if list, err := h.Waiting(t.Context(), u.ID); err != nil || len(list) != 0 {
			t.Errorf("asked: %v, %v", list, err)
		}
	})
}

func TestBackchannelRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofCallCentre), h.person(t)
		hint := b.user.Email
		for name, tt := range map[string]struct {
			edits []string
			code  string
		}{
			"no hint":             {nil, "invalid_request"},
			"two hints":           {[]string{"login_hint", hint, "id_token_hint", "x"}, "invalid_request"},
			"hint token":          {[]string{"login_hint_token", "x"}, "invalid_request"},
			"long hint":           {[]string{"login_hint", strings.Repeat("a", maxLoginHint+1)}, "invalid_request"},
			"no openid":           {[]string{"login_hint", hint, "scope", "email"}, "invalid_scope"},
			"foreign scope":       {[]string{"login_hint", hint, "scope", "openid admin"}, "invalid_scope"},
			"expiry zero":         {[]string{"login_hint", hint, "requested_expiry", "0"}, "invalid_request"},
			"expiry text":         {[]string{"login_hint", hint, "requested_expiry", "soon"}, "invalid_request"},
			"negative expiry":     {[]string{"login_hint", hint, "requested_expiry", "-1"}, "invalid_request"},
			"long message":        {[]string{"login_hint", hint, "binding_message", strings.Repeat("ä", maxMessage+1)}, "invalid_binding_message"},
			"message of lines":    {[]string{"login_hint", hint, "binding_message", "a\nb"}, "invalid_binding_message"},
			"message turned back": {[]string{"login_hint", hint, "binding_message", "a\u202eb"}, "invalid_binding_message"},
			"unsigned registered": {[]string{"login_hint", hint, "request", "a.b.c"}, "invalid_request"},
			"by reference":        {[]string{"login_hint", hint, "request_uri", "https://x.example"}, "invalid_request"},
			"foreign API":         {[]string{"login_hint", hint, "resource", "https://api.example"}, "invalid_target"},
			"details":             {[]string{"login_hint", hint, "authorization_details", "[]"}, "invalid_authorization_details"},
		} {
			if a := h.askPerson(t, c, tt.edits...); a.status != http.StatusBadRequest || a.str("error") != tt.code {
				t.Errorf("%s: got %d %v, want %s", name, a.status, a.body, tt.code)
			}
		}
		wantError(t, h.askPerson(t, h.client(t, nil), "login_hint", hint), 400, "unauthorized_client")
		wantError(t, h.askPerson(t, h.client(t, ofDevice), "login_hint", hint), 400, "unauthorized_client")
		wantError(t, h.askPerson(t, registered{c.Client, "wrong"}, "login_hint", hint), 401, "invalid_client")
		if len(b.waiting(t)) != 0 {
			t.Error("the person was asked")
		}
		if a := h.askPerson(t, c, "login_hint", hint, "requested_expiry", "999999"); a.body["expires_in"] != maxRequestLife.Seconds() {
			t.Errorf("a request may wait for %v s", a.body["expires_in"])
		}
	})
}

// Only the person themselves decides, and only as strongly signed in as the app demands.
func TestRequestIsDecidedByItsPersonAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b, stranger := h.client(t, ofCallCentre), h.person(t), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email, "acr_values", identity.ACRMFA)
		waiting := b.waiting(t)[0].ID
		if _, err := h.BeginRequest(t.Context(), stranger.user.ID, waiting); !gone(err) {
			t.Errorf("a stranger begins: %v", err)
		}
		if err := h.DenyRequest(t.Context(), stranger.session, waiting); !gone(err) {
			t.Errorf("a stranger refuses: %v", err)
		}
		in, err := h.BeginRequest(t.Context(), b.user.ID, waiting)
		if err != nil {
			t.Fatal(err)
		}
		if to := stranger.get(h, "/authorize/resume?i="+in).Header().Get("Location"); !strings.HasPrefix(to, "/login?i=") {
			t.Errorf("a stranger with the id was led to %s", to)
		}
		if err := h.Approve(t.Context(), in, stranger.session); err != nil {
			t.Fatal(err)
		}
		if to := stranger.get(h, "/authorize/resume?i="+in).Header().Get("Location"); !strings.HasPrefix(to, "/login?i=") {
			t.Errorf("a stranger who said yes was led to %s", to)
		}
		if to := b.get(h, "/authorize/resume?i="+in).Header().Get("Location"); !strings.HasPrefix(to, "/step-up?i=") {
			t.Errorf("the person was led to %s, want the second step", to)
		}
		if err := h.Deny(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if w := stranger.get(h, "/authorize/resume?i="+in); w.Code != http.StatusBadRequest {
			t.Errorf("a stranger's no: %d", w.Code)
		}
		wantError(t, h.fetch(t, c, id), 400, "authorization_pending")
	})
}

func TestAttackStateFlippedBeforeARequestIsFetched(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for name, flip := range map[string]func(b *browser, c registered){
			"user disabled":   func(b *browser, _ registered) { _ = h.people.SetStatus(t.Context(), b.user.ID, "disabled") },
			"not me":          func(b *browser, _ registered) { _, _ = h.people.Disown(t.Context(), b.user.ID, "") },
			"consent taken":   func(b *browser, c registered) { _ = h.Withdraw(t.Context(), b.user.ID, c.ID) },
			"client disabled": func(_ *browser, c registered) { h.edited(t, c, func(c *Client) { c.Disabled = true }) },
			"scope taken": func(_ *browser, c registered) {
				h.edited(t, c, func(c *Client) { c.Scopes = without(c.Scopes, "email") })
			},
			"policy stricter": func(_ *browser, c registered) {
				h.edited(t, c, func(c *Client) { c.DefaultACRValues = []string{identity.ACRPhishingResistant} })
			},
		} {
			c, b := h.client(t, ofCallCentre), h.person(t)
			id := h.asked(t, c, "login_hint", b.user.Email)
			b.grant(t)
			flip(b, c)
			if a := h.fetch(t, c, id); a.status == http.StatusOK || a.str("access_token") != "" {
				t.Errorf("%s: got %v", name, a.body)
			}
		}
	})
}

func signingRequests(c *Client) {
	ofCallCentre(c)
	c.JWKS, c.BackchannelRequestAlg = keySetOf("ES256", "ES256"), "ES256"
}

func TestSignedBackchannelRequest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, signingRequests), h.person(t)
		object := func(change map[string]any) map[string]any {
			now := h.Now()
			claims := map[string]any{
				"iss": c.ID, "aud": testIssuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
				"scope": "openid email", "login_hint": b.user.Email, "requested_expiry": 90,
			}
			for name, value := range change {
				if claims[name] = value; value == nil {
					delete(claims, name)
				}
			}
			return claims
		}
		signed := func(change map[string]any) string { return sign(t, "ES256", testKeys()["ES256"], nil, object(change)) }
		send := func(request string, edits ...string) answer {
			form := url.Values{"request": {request}}
			for i := 0; i < len(edits); i += 2 {
				form.Set(edits[i], edits[i+1])
			}
			return h.post(t, "/bc-authorize", c, form)
		}
		good := signed(nil)
		if a := send(good); a.status != http.StatusOK || a.body["expires_in"] != float64(90) {
			t.Fatalf("signed: %d %v", a.status, a.body)
		}
		wantError(t, send(good), 400, "invalid_request_object") // replayed
		if a := send(signed(map[string]any{"requested_expiry": "45"})); a.body["expires_in"] != float64(45) {
			t.Errorf("expiry as text: %v", a.body)
		}
		wantError(t, h.askPerson(t, c, "login_hint", b.user.Email), 400, "invalid_request")             // not signed
		wantError(t, send(signed(nil), "binding_message", "slipped in beside"), 400, "invalid_request") // unsigned parameter
		now := h.Now()
		for name, request := range map[string]string{
			"none":            sign(t, "none", nil, nil, object(nil)),
			"another key":     sign(t, "ES256", testKeys()["other"], nil, object(nil)),
			"another alg":     sign(t, "RS256", testKeys()["RS256"], nil, object(nil)),
			"no exp":          signed(map[string]any{"exp": nil}),
			"no nbf":          signed(map[string]any{"nbf": nil}),
			"no iat":          signed(map[string]any{"iat": nil}),
			"no jti":          signed(map[string]any{"jti": nil}),
			"no iss":          signed(map[string]any{"iss": nil}),
			"no aud":          signed(map[string]any{"aud": nil}),
			"another server":  signed(map[string]any{"aud": "https://other.example"}),
			"another client":  signed(map[string]any{"client_id": "other"}),
			"expired":         signed(map[string]any{"exp": now.Add(-time.Minute).Unix()}),
			"long-lived":      signed(map[string]any{"exp": now.Add(2 * time.Hour).Unix()}),
			"old":             signed(map[string]any{"nbf": now.Add(-2 * time.Hour).Unix()}),
			"of the future":   signed(map[string]any{"iat": now.Add(time.Hour).Unix()}),
			"not yet":         signed(map[string]any{"nbf": now.Add(time.Minute).Unix()}),
			"holds another":   signed(map[string]any{"request": "a.b.c"}),
			"an access token": sign(t, "ES256", testKeys()["ES256"], map[string]any{"typ": "at+jwt"}, object(nil)),
		} {
			if a := send(request); a.status != http.StatusBadRequest || a.str("error") != "invalid_request_object" {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
	})
}

func TestPing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		var mu sync.Mutex
		var got []string
		status := http.StatusServiceUnavailable
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), string(body)}, " "))
			if status == http.StatusFound {
				w.Header().Set("Location", "/elsewhere")
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"nobody reads this"}`)
		}))
		defer app.Close()
		pings := func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(got) }
		c := h.client(t, func(c *Client) {
			ofCallCentre(c)
			c.DeliveryMode, c.NotificationEndpoint = DeliveryPing, app.URL+"/ping"
		})
		b := h.person(t)
		for _, bad := range []string{"", "with space", strings.Repeat("a", maxNotification+1), "newline\n", "=="} {
			wantError(t, h.askPerson(t, c, "login_hint", b.user.Email, "client_notification_token", bad), 400, "invalid_request")
		}
		id := h.asked(t, c, "login_hint", b.user.Email, "client_notification_token", "8d67dc78-7faa-4d41")
		h.deliver(t)
		if len(pings()) != 0 {
			t.Fatalf("pinged before the answer: %v", pings())
		}
		b.grant(t)
		list, err := h.Outbox.List(t.Context(), c.ID, "", "", 10)
		if err != nil || len(list) != 1 || list[0].Kind != kindPing || list[0].UserID != "" {
			t.Fatalf("deliveries: %+v, %v", list, err)
		}
		var detail string
		if err := h.DB.QueryRow(t.Context(), `SELECT detail FROM deliveries WHERE id = $1`, list[0].ID).Scan(&detail); err != nil || strings.Contains(detail, id) || strings.Contains(detail, "8d67dc78") {
			t.Errorf("the database holds what only the client may know: %s, %v", detail, err)
		}
		body, _ := json.Marshal(map[string]string{"auth_req_id": id})
		want := "POST /ping application/json Bearer 8d67dc78-7faa-4d41 " + string(body)
		for i, answer := range []int{http.StatusServiceUnavailable, http.StatusUnauthorized, http.StatusFound, http.StatusNoContent} {
			mu.Lock()
			status = answer
			mu.Unlock()
			h.deliver(t)
			if len(pings()) != i+1 || pings()[i] != want {
				t.Fatalf("ping %d: %q, want %q", i, pings(), want)
			}
			h.advanceClock(4 * time.Minute)
		}
		h.deliver(t)
		if len(pings()) != 4 {
			t.Errorf("pinged %d times, want 4", len(pings()))
		}
		if a := h.fetch(t, c, id); a.status != http.StatusBadRequest || a.str("error") != "expired_token" { // 16 minutes later
			t.Errorf("got %d %v", a.status, a.body)
		}
		// A refusal is news, too, and nobody is pinged about what is long over.
		id = h.asked(t, c, "login_hint", b.user.Email, "client_notification_token", "again")
		if err := h.DenyRequest(t.Context(), b.session, b.waiting(t)[0].ID); err != nil {
			t.Fatal(err)
		}
		h.deliver(t)
		if len(pings()) != 5 {
			t.Errorf("pinged %d times, want 5", len(pings()))
		}
		wantError(t, h.fetch(t, c, id), 400, "access_denied")
	})
}

func TestBackchannelClients(t *testing.T) {
	t.Parallel()
	base := Client{ID: "c", Name: "App", Scopes: standardScopes, GrantTypes: []string{GrantCIBA}, RequirePKCE: true}.WithDefaults()
	if err := base.Validate(); err != nil || base.DeliveryMode != DeliveryPoll {
		t.Fatalf("default: %q, %v", base.DeliveryMode, err)
	}
	for name, change := range map[string]func(c *Client){
		"public":               func(c *Client) { c.AuthMethod = AuthNone },
		"made itself":          func(c *Client) { c.Origin = OriginRegistration },
		"no openid":            func(c *Client) { c.Scopes = []string{"email"} },
		"push":                 func(c *Client) { c.DeliveryMode = "push" },
		"ping to nowhere":      func(c *Client) { c.DeliveryMode = DeliveryPing },
		"ping over http":       func(c *Client) { c.DeliveryMode, c.NotificationEndpoint = DeliveryPing, "http://app.example/ping" },
		"endpoint for nothing": func(c *Client) { c.NotificationEndpoint = "https://app.example/ping" },
		"alg none":             func(c *Client) { c.BackchannelRequestAlg = "none" },
		"alg without keys":     func(c *Client) { c.BackchannelRequestAlg = "ES256" },
		"mode without grant":   func(c *Client) { c.GrantTypes = []string{GrantDeviceCode} },
		"profile mcp":          func(c *Client) { c.Profile = ProfileMCP },
	} {
		c := base
		c.GrantTypes = slices.Clone(base.GrantTypes)
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBackchannelMetadata(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	var m map[string]any
	if err := json.Unmarshal(h.metadata.body, &m); err != nil {
		t.Fatal(err)
	}
	if m["backchannel_authentication_endpoint"] != testIssuer+"/bc-authorize" || m["backchannel_user_code_parameter_supported"] != false {
		t.Errorf("endpoint %v, user code %v", m["backchannel_authentication_endpoint"], m["backchannel_user_code_parameter_supported"])
	}
	if modes, _ := m["backchannel_token_delivery_modes_supported"].([]any); len(modes) != 2 || modes[0] != "poll" || modes[1] != "ping" {
		t.Errorf("modes %v", modes)
	}
}

// A client that must tie its tokens gets none that are not.
func TestBackchannelTokensAreBoundForFAPI(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, func(c *Client) { ofCallCentre(c); c.DPoPBound = true }), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		b.grant(t)
		wantError(t, h.fetch(t, c, id), 400, "invalid_dpop_proof")
	})
}

// What an app asks for in detail is allowed by somebody who has just proven who they are: a browser left open on a desk is not enough.
func TestSensitiveRequestWantsAFreshSignIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		pays := h.payments(t)
		h.edited(t, pays, func(c *Client) {
			c.GrantTypes, c.DeliveryMode = append(c.GrantTypes, GrantCIBA), DeliveryPoll
		})
		b := h.person(t)
		id := h.asked(t, pays, "login_hint", b.user.Email, "authorization_details", "["+paymentDetail+"]")
		h.advanceClock(sensitiveAge - time.Minute)
		in, err := h.BeginRequest(t.Context(), b.user.ID, b.waiting(t)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if to := b.get(h, "/authorize/resume?i="+in).Header().Get("Location"); !strings.HasPrefix(to, "/consent?") {
			t.Errorf("led to %s", to)
		}
		shown, err := h.Interaction(t.Context(), in, b.user.ID)
		if err != nil || len(shown.Details) != 1 {
			t.Errorf("shown: %+v, %v", shown.Details, err)
		}
		b.grant(t)
		a := h.fetch(t, pays, id)
		if details, _ := a.body["authorization_details"].([]any); a.status != http.StatusOK || len(details) != 1 {
			t.Errorf("tokens: %d %v", a.status, a.body)
		}
		h.asked(t, pays, "login_hint", b.user.Email, "authorization_details", "["+paymentDetail+"]")
		h.advanceClock(sensitiveAge - time.Minute)
		if in, err = h.BeginRequest(t.Context(), b.user.ID, b.waiting(t)[0].ID); err != nil {
			t.Fatal(err)
		}
		if to := b.get(h, "/authorize/resume?i="+in).Header().Get("Location"); !strings.HasPrefix(to, "/login?") {
			t.Errorf("an old session was led to %s, want the sign-in", to)
		}
	})
}

func FuzzBackchannelParameters(f *testing.F) {
	f.Add("Order 4711", "120", "8d67dc78-7faa-4d41")
	f.Add("a\u202eb\r\nSet-Cookie: x", "0", "a\r\nX: y")
	f.Add("\xff", "99999999999999999999", "==")
	s := &Server{Config: Config{Seal: must(seal.New(make([]byte, seal.KeySize)))}}
	client := &registration{Client: Client{Backchannel: Backchannel{DeliveryMode: DeliveryPing}}}
	f.Fuzz(func(t *testing.T, message, expiry, token string) {
		d := &decoupled{Life: decoupledLife}
		if s.readRequest(d, client, "code", url.Values{"binding_message": {message}, "requested_expiry": {expiry}, "client_notification_token": {token}}) != nil {
			return
		}
		if d.Message != message || len(d.Message) > 4*maxMessage || strings.ContainsAny(d.Message, "\r\n\u2028\u202e\x00") {
			t.Errorf("message %q", d.Message)
		}
		if d.Life <= 0 || d.Life > maxRequestLife {
			t.Errorf("life %s", d.Life)
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '"' }) || len(token) > maxNotification {
			t.Errorf("token %q", token)
		}
	})
}
