package oauth

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
)

// watcher is an app that may receive security events.
func (h *harness) watcher(t testing.TB, edit func(c *Client)) (c registered, token string) {
	t.Helper()
	c = h.client(t, func(c *Client) {
		c.SecurityEvents = true
		c.Scopes = append(c.Scopes, scopeSSFManage, scopeSSFRead)
		if edit != nil {
			edit(c)
		}
	})
	return c, h.own(t, c, scopeSSFManage)
}

// own is an access token that a client gets for itself.
func (h *harness) own(t testing.TB, c registered, scope string) string {
	t.Helper()
	a := h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
	if a.status != http.StatusOK {
		t.Fatalf("client credentials: %d %v", a.status, a.body)
	}
	return a.str("access_token")
}

// ask calls an endpoint with a JSON body and an access token.
func (h *harness) ask(t testing.TB, method, path, token string, body any) *httptest.ResponseRecorder {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

func decoded(t testing.TB, w *httptest.ResponseRecorder, status int) map[string]any {
	t.Helper()
	var v map[string]any
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	return v
}

func str(m map[string]any, name string) string { s, _ := m[name].(string); return s }

var allEvents = []string{eventSessionRevoked, eventCredentialChange, "https://schemas.openid.net/secevent/caep/event-type/token-claims-change"}

// polls fetches what a stream holds.
func (h *harness) polls(t testing.TB, token, endpoint string, ack ...string) map[string]map[string]any {
	t.Helper()
	w := h.ask(t, http.MethodPost, strings.TrimPrefix(endpoint, testIssuer), token, map[string]any{"returnImmediately": true, "ack": ack})
	sets := map[string]map[string]any{}
	for id, token := range decoded(t, w, http.StatusOK)["sets"].(map[string]any) {
		header, claims := claimsOf(t, token.(string))
		if header["typ"] != "secevent+jwt" || claims["jti"] != id || claims["iss"] != testIssuer || claims["sub"] != nil || claims["exp"] != nil || claims["nonce"] != nil {
			t.Errorf("SET %v %v", header, claims)
		}
		if _, err := h.Keys.Verify(token.(string)); err != nil {
			t.Errorf("SET: %v", err)
		}
		sets[id] = claims
	}
	return sets
}

func TestSecurityEventsByPoll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, token := h.watcher(t, nil)
		stranger, strangers := h.watcher(t, nil)
		made := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{"events_requested": allEvents, "description": "the shop"}), http.StatusCreated)
		way := made["delivery"].(map[string]any)
		if made["iss"] != testIssuer || made["aud"] != c.ID || str(way, "method") != methodPoll || len(made["events_delivered"].([]any)) != 2 || len(made["events_requested"].([]any)) != 3 {
			t.Fatalf("stream %v", made)
		}
		other := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", strangers, map[string]any{"events_requested": allEvents}), http.StatusCreated)
		endpoint := str(way, "endpoint_url")

		b := h.person(t)
		b.code(t, c)
		if err := h.people.SetPassword(t.Context(), b.session, "another-"+testPassword); err != nil {
			t.Fatal(err)
		}
		if _, err := h.people.EndSessions(t.Context(), b.user.ID, ""); err != nil {
			t.Fatal(err)
		}
		nobody := h.person(t) // has never used the app
		if err := h.people.SetPassword(t.Context(), nobody.session, "another-"+testPassword); err != nil {
			t.Fatal(err)
		}

		sets := h.polls(t, token, endpoint)
		var revoked, changed map[string]any
		for _, claims := range sets {
			events := claims["events"].(map[string]any)
			if e, ok := events[eventSessionRevoked].(map[string]any); ok {
				revoked = claims
				if e["event_timestamp"] == nil {
					t.Errorf("event %v", e)
				}
			}
			if e, ok := events[eventCredentialChange].(map[string]any); ok {
				changed = claims
				if e["credential_type"] != "password" || e["change_type"] != "update" || e["initiating_entity"] != "user" {
					t.Errorf("event %v", e)
				}
			}
		}
		if len(sets) != 2 || revoked == nil || changed == nil {
			t.Fatalf("got %v", sets)
		}
		if id := changed["sub_id"].(map[string]any); id["format"] != "iss_sub" || id["iss"] != testIssuer || id["sub"] != b.user.ID {
			t.Errorf("subject %v", id)
		}
		id := revoked["sub_id"].(map[string]any)
		if id["format"] != "complex" || id["session"].(map[string]any)["id"] != b.session.ID || id["user"].(map[string]any)["sub"] != b.user.ID {
			t.Errorf("subject %v", id)
		}
		// Others learn nothing of it, and acknowledging another's events does nothing.
		ids := slices.Collect(maps.Keys(sets))
		if got := h.polls(t, strangers, str(other["delivery"].(map[string]any), "endpoint_url"), ids...); len(got) != 0 {
			t.Errorf("%s got %v", stranger.ID, got)
		}
		if w := h.ask(t, http.MethodPost, strings.TrimPrefix(endpoint, testIssuer), strangers, map[string]any{"returnImmediately": true}); w.Code != http.StatusNotFound {
			t.Errorf("another's stream: %d %s", w.Code, w.Body)
		}
		if again := h.polls(t, token, endpoint, ids[0]); len(again) != 1 || again[ids[1]] == nil {
			t.Errorf("after one acknowledgement: %v", again)
		}
		if again := h.polls(t, token, endpoint, ids...); len(again) != 0 {
			t.Errorf("after both: %v", again)
		}
	})
}

func TestSecurityEventsByPush(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		var got []*http.Request
		var bodies []string
		sink := newReceiver(t)
		sink.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			got, bodies = append(got, r), append(bodies, b.String())
			w.WriteHeader(http.StatusAccepted)
		})
		c, token := h.watcher(t, nil)
		made := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{
			"events_requested": []string{eventSessionRevoked},
			"delivery":         map[string]string{"method": methodPush, "endpoint_url": sink.URL + "/events", "authorization_header": "Bearer its-secret"},
		}), http.StatusCreated)
		if strings.Contains(string(must(json.Marshal(made))), "its-secret") {
			t.Errorf("the secret is shown: %v", made)
		}
		id := str(made, "stream_id")

		// A verification event proves the way.
		if w := h.ask(t, http.MethodPost, "/ssf/verify", token, map[string]string{"stream_id": id, "state": "xyz"}); w.Code != http.StatusNoContent {
			t.Fatalf("verify: %d %s", w.Code, w.Body)
		}
		if w := h.ask(t, http.MethodPost, "/ssf/verify", token, map[string]string{"stream_id": id}); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("verify twice: %d", w.Code)
		}
		h.deliver(t)
		if len(got) != 1 {
			t.Fatalf("%d pushes, want 1", len(got))
		}
		_, claims := claimsOf(t, bodies[0])
		if e := claims["events"].(map[string]any)[eventVerification].(map[string]any); e["state"] != "xyz" || claims["sub_id"].(map[string]any)["id"] != id || claims["aud"] != c.ID {
			t.Errorf("verification %v", claims)
		}
		if got[0].Header.Get("Content-Type") != "application/secevent+jwt" || got[0].Header.Get("Authorization") != "Bearer its-secret" || got[0].URL.Path != "/events" {
			t.Errorf("push %v %v", got[0].URL, got[0].Header)
		}

		end := func() {
			b := h.person(t)
			b.code(t, c)
			if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
				t.Fatal(err)
			}
			h.deliver(t)
		}
		status := func(to string) {
			if w := h.ask(t, http.MethodPost, "/ssf/status", token, map[string]string{"stream_id": id, "status": to}); w.Code != http.StatusOK {
				t.Fatalf("status %s: %d %s", to, w.Code, w.Body)
			}
		}
		end()
		if len(got) != 2 {
			t.Fatalf("%d pushes, want 2", len(got))
		}
		status("paused") // keeps what happens
		end()
		if len(got) != 2 {
			t.Error("pushed while paused")
		}
		status("enabled")
		h.deliver(t)
		if len(got) != 3 {
			t.Errorf("%d pushes after the pause, want 3", len(got))
		}
		status("disabled") // loses it
		end()
		status("enabled")
		h.deliver(t)
		if len(got) != 3 {
			t.Error("pushed what happened while the stream was disabled")
		}
		// An operator who takes the permission away ends it.
		c.SecurityEvents = false
		if err := h.Clients.Update(t.Context(), c.Client); err != nil {
			t.Fatal(err)
		}
		end()
		if w := h.ask(t, http.MethodGet, "/ssf/stream", token, nil); len(got) != 3 || w.Code != http.StatusForbidden {
			t.Errorf("without permission: %d pushes, %d", len(got), w.Code)
		}
	})
}

func TestCredentialChanges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, token := h.watcher(t, nil)
		made := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{"events_requested": allEvents}), http.StatusCreated)
		endpoint := str(made["delivery"].(map[string]any), "endpoint_url")
		b := h.person(t)
		b.consent(t, c) // no session, no grant: the consent alone says that the app knows the person
		if err := h.people.SetOneTimePassword(t.Context(), b.user.ID, "another-"+testPassword); err != nil {
			t.Fatal(err)
		}
		link := must(h.people.NewLink(t.Context(), b.user.ID, identity.Reset, ""))
		if _, err := h.people.ResetPassword(t.Context(), link, "once-more-"+testPassword); err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, claims := range h.polls(t, token, endpoint) {
			if e, ok := claims["events"].(map[string]any)[eventCredentialChange].(map[string]any); ok {
				kinds = append(kinds, str(e, "credential_type")+" "+str(e, "change_type")+" "+str(e, "initiating_entity"))
			}
		}
		slices.Sort(kinds)
		if want := []string{"password update admin", "password update user"}; !slices.Equal(kinds, want) {
			t.Errorf("got %q, want %q", kinds, want)
		}
	})
}

func TestStreamManagement(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		_, token := h.watcher(t, nil)
		_, strangers := h.watcher(t, nil)
		if w := h.ask(t, http.MethodGet, "/ssf/stream", token, nil); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("no stream: %d %s", w.Code, w.Body)
		}
		made := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{"events_requested": []string{eventSessionRevoked}}), http.StatusCreated)
		id := str(made, "stream_id")
		if w := h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{}); w.Code != http.StatusConflict {
			t.Errorf("second stream: %d", w.Code)
		}
		changed := decoded(t, h.ask(t, http.MethodPatch, "/ssf/stream", token, map[string]any{"stream_id": id, "events_requested": allEvents}), http.StatusOK)
		if len(changed["events_delivered"].([]any)) != 2 {
			t.Errorf("changed: %v", changed)
		}
		replaced := decoded(t, h.ask(t, http.MethodPut, "/ssf/stream", token, map[string]any{
			"stream_id": id, "delivery": map[string]string{"method": methodPush, "endpoint_url": "https://rx.example.test/events"}, "description": "x",
		}), http.StatusOK)
		if replaced["events_delivered"] != nil || str(replaced["delivery"].(map[string]any), "method") != methodPush {
			t.Errorf("replaced: %v", replaced)
		}
		if got := decoded(t, h.ask(t, http.MethodGet, "/ssf/stream?stream_id="+id, token, nil), http.StatusOK); str(got, "description") != "x" {
			t.Errorf("read: %v", got)
		}
		for name, bad := range map[string]any{
			"http":          map[string]any{"stream_id": id, "delivery": map[string]string{"method": methodPush, "endpoint_url": "http://rx.example.test/"}},
			"file":          map[string]any{"stream_id": id, "delivery": map[string]string{"method": methodPush, "endpoint_url": "file:///etc/passwd"}},
			"method":        map[string]any{"stream_id": id, "delivery": map[string]string{"method": "smoke"}},
			"header":        map[string]any{"stream_id": id, "delivery": map[string]string{"method": methodPush, "endpoint_url": "https://rx.example.test/", "authorization_header": "x\r\nHost: y"}},
			"another aud":   map[string]any{"stream_id": id, "aud": "somebody"},
			"another iss":   map[string]any{"stream_id": id, "iss": "https://other.example"},
			"no object":     []string{"x"},
			"control in it": map[string]any{"stream_id": id, "description": "a\x00b"},
		} {
			if w := h.ask(t, http.MethodPatch, "/ssf/stream", token, bad); w.Code != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		for _, try := range []struct {
			method, path string
			body         any
		}{
			{http.MethodGet, "/ssf/stream?stream_id=" + id, nil},
			{http.MethodPatch, "/ssf/stream", map[string]string{"stream_id": id}},
			{http.MethodPut, "/ssf/stream", map[string]string{"stream_id": id}},
			{http.MethodDelete, "/ssf/stream?stream_id=" + id, nil},
			{http.MethodGet, "/ssf/status?stream_id=" + id, nil},
			{http.MethodPost, "/ssf/status", map[string]string{"stream_id": id, "status": "disabled"}},
			{http.MethodPost, "/ssf/verify", map[string]string{"stream_id": id}},
		} {
			if w := h.ask(t, try.method, try.path, strangers, try.body); w.Code != http.StatusNotFound {
				t.Errorf("%s %s of another client: %d", try.method, try.path, w.Code)
			}
			if w := h.ask(t, try.method, try.path, "", try.body); w.Code != http.StatusUnauthorized {
				t.Errorf("%s %s without a token: %d", try.method, try.path, w.Code)
			}
		}
		if w := h.ask(t, http.MethodDelete, "/ssf/stream?stream_id="+id, token, nil); w.Code != http.StatusNoContent {
			t.Errorf("delete: %d", w.Code)
		}
		if w := h.ask(t, http.MethodDelete, "/ssf/stream?stream_id="+id, token, nil); w.Code != http.StatusNotFound {
			t.Errorf("delete twice: %d", w.Code)
		}
	})
}

// A scope alone makes nobody a receiver, nor does a person's token, however it came by the scope.
func TestReceiverWithoutPermission(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) { c.Scopes = append(c.Scopes, scopeSSFManage, scopeGlobalRevocation) })
		if w := h.ask(t, http.MethodPost, "/ssf/stream", h.own(t, c, scopeSSFManage), map[string]any{}); w.Code != http.StatusForbidden {
			t.Errorf("scope alone: %d", w.Code)
		}
		allowed, _ := h.watcher(t, func(c *Client) { c.RevokesPeople = true; c.Scopes = append(c.Scopes, scopeGlobalRevocation) })
		if w := h.ask(t, http.MethodPost, "/ssf/stream", h.own(t, allowed, "read"), map[string]any{}); w.Code != http.StatusForbidden {
			t.Errorf("without the scope: %d", w.Code)
		}
		if w := h.ask(t, http.MethodPost, "/ssf/stream", h.own(t, allowed, scopeSSFRead), map[string]any{}); w.Code != http.StatusForbidden {
			t.Errorf("with the scope to read: %d", w.Code)
		}
		b := h.person(t)
		token := b.tokens(t, allowed, "scope", "openid "+scopeSSFManage+" "+scopeGlobalRevocation).str("access_token")
		for path, body := range map[string]any{
			"/ssf/stream": map[string]any{}, "/global-token-revocation": map[string]any{"sub_id": map[string]string{"format": "opaque", "id": b.user.ID}},
		} {
			if w := h.ask(t, http.MethodPost, path, token, body); w.Code != http.StatusUnauthorized {
				t.Errorf("%s with a person's token: %d", path, w.Code)
			}
		}
	})
}

func TestSSFMetadata(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		m := decoded(t, h.ask(t, http.MethodGet, "/.well-known/ssf-configuration", "", nil), http.StatusOK)
		if m["issuer"] != testIssuer || m["spec_version"] != "1_0" || m["jwks_uri"] != testIssuer+"/jwks" {
			t.Errorf("got %v", m)
		}
		for name, value := range m {
			if strings.HasSuffix(name, "_endpoint") {
				path := strings.TrimPrefix(value.(string), testIssuer)
				if w := h.ask(t, http.MethodPost, path, "", nil); w.Code != http.StatusUnauthorized {
					t.Errorf("%s does not answer: %d", name, w.Code)
				}
			}
		}
	})
}

func TestGlobalTokenRevocation(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		c := h.client(t, r.hears)
		admin := h.client(t, func(c *Client) { c.RevokesPeople = true; c.Scopes = append(c.Scopes, scopeGlobalRevocation) })
		token := h.own(t, admin, scopeGlobalRevocation)
		for _, name := range []string{"iss_sub", "opaque", "email"} {
			b := h.person(t)
			tokens := b.tokens(t, c)
			subject := map[string]map[string]string{
				"iss_sub": {"format": "iss_sub", "iss": testIssuer, "sub": b.user.ID}, "opaque": {"format": "opaque", "id": b.user.ID}, "email": {"format": "email", "email": strings.ToUpper(b.user.Email)},
			}[name]
			if w := h.ask(t, http.MethodPost, "/global-token-revocation", token, map[string]any{"sub_id": subject}); w.Code != http.StatusNoContent {
				t.Fatalf("%s: %d %s", name, w.Code, w.Body)
			}
			if _, err := h.people.Session(t.Context(), b.token); err == nil {
				t.Errorf("%s: the session lives on", name)
			}
			if h.introspectToken(t, c, tokens.str("access_token")) {
				t.Errorf("%s: the access token lives on", name)
			}
			wantError(t, h.refreshToken(t, c, tokens.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
		}
		h.deliver(t)
		if len(r.got()) != 3 {
			t.Errorf("the app was told %d times, want 3", len(r.got()))
		}
		for name, subject := range map[string]map[string]string{
			"unknown":        {"format": "opaque", "id": "nobody"},
			"unknown mail":   {"format": "email", "email": "nobody@example.test"},
			"foreign issuer": {"format": "iss_sub", "iss": "https://other.example", "sub": h.person(t).user.ID},
			"empty":          {"format": "opaque"},
		} {
			if w := h.ask(t, http.MethodPost, "/global-token-revocation", token, map[string]any{"sub_id": subject}); w.Code != http.StatusNotFound {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		if w := h.ask(t, http.MethodPost, "/global-token-revocation", token, map[string]any{"sub_id": map[string]string{"format": "phone_number"}}); w.Code != http.StatusBadRequest {
			t.Errorf("unknown format: %d", w.Code)
		}
		other := h.client(t, func(c *Client) { c.Scopes = append(c.Scopes, scopeGlobalRevocation) })
		if w := h.ask(t, http.MethodPost, "/global-token-revocation", h.own(t, other, scopeGlobalRevocation), map[string]any{}); w.Code != http.StatusForbidden {
			t.Errorf("a client without permission: %d", w.Code)
		}
	})
}

// FuzzStreamConfiguration holds what a receiver sends to what can be delivered to.
func FuzzStreamConfiguration(f *testing.F) {
	f.Add([]byte(`{"events_requested":["x"],"delivery":{"method":"urn:ietf:rfc:8935","endpoint_url":"https://rx.example/"}}`))
	f.Add([]byte(`{"delivery":{"method":"urn:ietf:rfc:8935","endpoint_url":"https://rx.example/\\@127.0.0.1"},"aud":["a"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/ssf/stream", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		var c configuration
		if readJSON(r, &c) != nil {
			return
		}
		var s streamSettings
		authorization, _, err := s.apply(c, true)
		if err != nil {
			return
		}
		if s.Method == methodPush && !strings.HasPrefix(s.Endpoint, "https://") && !strings.HasPrefix(s.Endpoint, "http://") || strings.ContainsAny(authorization, "\r\n\x00") {
			t.Errorf("accepted %+v %q", s, authorization)
		}
	})
}
