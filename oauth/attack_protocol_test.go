package oauth

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
)

// signInVia signs the person in by a provider, which is made if need be.
func (b *browser) signInVia(t testing.TB, provider, metadata string) {
	t.Helper()
	ctx, h := t.Context(), b.h
	if _, err := h.DB.Exec(ctx, `INSERT INTO providers (id, metadata, secret, disabled, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		provider, metadata, []byte{}, false, h.Now().UTC()); err != nil {
		t.Fatal(err)
	}
	if err := h.people.Link(ctx, b.user.ID, identity.Elsewhere{Provider: provider, Issuer: workforce, Subject: "ada"}); err != nil {
		t.Fatal(err)
	}
	via := identity.Via{Provider: provider, ProvenAt: h.Now()}
	var err error
	b.token, b.session, err = h.people.StartSessionVia(ctx, via, b.user.ID, []string{"upstream"}, identity.Device{Address: netip.MustParseAddr("192.0.2.7")}, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *harness) disableProvider(t testing.TB, provider string) {
	t.Helper()
	if _, err := h.DB.Exec(t.Context(), `UPDATE providers SET disabled = TRUE WHERE id = $1`, provider); err != nil {
		t.Fatal(err)
	}
	if _, err := h.people.EndProviderSessions(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
}

// Whoever is in by a provider that turns out to be bad lets devices in and signs out: nothing of the session is left by which they
// could be found.
func TestAttackDeviceOutlivesTheProviderItCameBy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		for _, kept := range []bool{false, true} {
			provider, metadata := "bad", "{}"
			if kept {
				provider, metadata = "retired", `{"keep_sessions":true}`
			}
			b.signInVia(t, provider, metadata)
			fetched, waiting := h.device(t, c, "openid offline_access"), h.device(t, c, "openid offline_access")
			for _, d := range []answer{fetched, waiting} {
				b.decide(t, d.str("user_code"), true)
			}
			first := h.poll(t, c, fetched.str("device_code"))
			if first.status != http.StatusOK {
				t.Fatalf("poll: %v", first.body)
			}
			if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
				t.Fatal(err)
			}
			again := h.refreshToken(t, c, first.str("refresh_token"))
			if again.status != http.StatusOK {
				t.Fatalf("refresh before: %v", again.body)
			}
			h.disableProvider(t, provider)
			after, polled := h.refreshToken(t, c, again.str("refresh_token")), h.poll(t, c, waiting.str("device_code"))
			if kept {
				if after.status != http.StatusOK || polled.status != http.StatusOK {
					t.Errorf("sessions outlive the provider, the device does not: %v, %v", after.body, polled.body)
				}
				continue
			}
			wantError(t, after, 400, "invalid_grant")
			wantError(t, polled, 400, "invalid_grant")
			if h.introspectToken(t, h.client(t, nil), again.str("access_token")) {
				t.Error("the access token lives on")
			}
			if _, err := h.DB.Exec(t.Context(), `UPDATE providers SET disabled = FALSE WHERE id = $1`, provider); err != nil {
				t.Fatal(err)
			}
			wantError(t, h.refreshToken(t, c, again.str("refresh_token")), 400, "invalid_grant") // nor does it come back with it
		}
	})
}

// A stranger's account was linked and let a device in; the person takes the link out.
func TestAttackDeviceOutlivesTheLinkThatLetItIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, ofDevice), h.person(t)
		own := b.session
		b.signInVia(t, "elsewhere", "{}")
		asked := h.device(t, c, "openid offline_access")
		b.decide(t, asked.str("user_code"), true)
		got := h.poll(t, c, asked.str("device_code"))
		list, err := h.people.LinkedAccounts(t.Context(), b.user.ID)
		if err != nil || len(list) != 1 {
			t.Fatalf("linked: %v, %v", list, err)
		}
		if _, err := h.people.Unlink(t.Context(), own, list[0].Key); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.refreshToken(t, c, got.str("refresh_token")), 400, "invalid_grant")
		if h.userinfoAnswer(t, got.str("access_token")).status == http.StatusOK {
			t.Error("the access token lives on")
		}
	})
}

// What an app wishes of each sign-in holds where its request cannot say it, too.
func TestAttackMaxAgeLostWithoutABrowser(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		seconds := int64(60)
		for name, edit := range map[string]func(c *Client){"device": ofDevice, "CIBA": ofCallCentre} {
			b := h.person(t)
			c := h.client(t, func(c *Client) { edit(c); c.DefaultMaxAge = &seconds })
			h.advanceClock(2 * time.Minute)
			var id string
			var err error
			if name == "device" {
				id, err = h.BeginDevice(t.Context(), h.device(t, c, "openid").str("user_code"))
			} else {
				h.asked(t, c, "login_hint", b.user.Email)
				id, err = h.BeginRequest(t.Context(), b.user.ID, b.waiting(t)[0].ID)
			}
			if err != nil {
				t.Fatal(err)
			}
			if to := b.get(h, "/authorize/resume?i="+id).Header().Get("Location"); to != "/login?i="+url.QueryEscape(id) {
				t.Errorf("%s: a sign-in of two minutes ago led to %s", name, to)
			}
		}
	})
}

// between calls f once, when the cache is asked to remember the first mark of what was used: behind the checks of an assertion, before its token is made.
type between struct {
	cache.Cache
	f func()
}

func (c *between) Add(ctx context.Context, key string, life time.Duration) (bool, error) {
	if f := c.f; f != nil {
		c.f = nil
		f()
	}
	return c.Cache.Add(ctx, key, life)
}

// A person pauses an app while it brings an assertion about them: what it was let do a moment ago must not undo the pause.
func TestAttackPauseRacingWithAnAssertion(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		hook := &between{Cache: h.Cache}
		h.Cache = hook
		w := newBearerWorld(t, h)
		w.b.consent(t, w.service)
		if a := w.person(t, nil, nil, "scope", "read"); a.status != http.StatusOK {
			t.Fatalf("before: %v", a.body)
		}
		id := w.b.agent(t).GrantID
		h.advanceClock(time.Second)
		hook.f = func() {
			if err := h.PauseAgent(t.Context(), w.b.user.ID, id); err != nil {
				t.Error(err)
			}
			h.advanceClock(2 * time.Second) // the token would be younger than the mark
		}
		a := w.person(t, nil, nil, "scope", "read")
		if a.status == http.StatusOK && h.introspectToken(t, w.service, a.str("access_token")) {
			t.Error("the app got a token that is good")
		}
		if w.b.agent(t).PausedAt.IsZero() {
			t.Error("the app is not paused any more")
		}
	})
}

// An account is disabled, or a consent taken back, just after the server has looked and before the grant of the assertion is there.
func TestAttackEndRacingWithAnAssertion(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		w.b.consent(t, w.service)
		now, armed := h.Grants.now, true
		h.Grants.now = func() time.Time { // is asked first when the grant is looked for
			if armed {
				armed = false
				if err := h.people.SetStatus(t.Context(), w.b.user.ID, identity.StatusDisabled); err != nil {
					t.Error(err)
				}
				h.advanceClock(2 * time.Second)
			}
			return now()
		}
		a := w.person(t, nil, nil, "scope", "read")
		if armed {
			t.Fatal("nothing happened in between")
		}
		if a.status == http.StatusOK && h.introspectToken(t, w.service, a.str("access_token")) {
			t.Error("a token for a disabled person is good")
		}
	})
}

// A person stops an agent while a service goes on from its token: counted is not made yet.
func TestAttackPauseRacingWithAnExchange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newAgentWorld(t, h)
		token := w.token(t, "openid read").str("access_token")
		h.advanceClock(time.Second)
		id := w.b.agent(t).GrantID
		h.Audit.Tell(func(ctx context.Context, e audit.Event) error {
			if e.Action == "token.exchange" { // behind the count, before the token
				h.Audit.Tell(h.Outbox.Heard)
				if err := h.PauseAgent(ctx, w.b.user.ID, id); err != nil {
					t.Error(err)
				}
				h.advanceClock(2 * time.Second)
			}
			return nil
		})
		a := w.exchangeToken(t, w.orders, token)
		if a.status == http.StatusOK && h.introspectToken(t, w.orders, a.str("access_token")) {
			t.Errorf("the service got a token that is good: %v", a.body)
		}
	})
}

// Strangers type addresses into apps that pass them on: whoever has an account must not be told by the work that the answer takes. Each
// request writes one line, in one transaction, whether it is shown to somebody or not; a person reads of none that they were not shown.
func TestAttackTimeTellsWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b, muted := h.client(t, ofCallCentre), h.person(t), h.person(t)
		if err := h.MuteApp(t.Context(), muted.session, c.ID); err != nil {
			t.Fatal(err)
		}
		for _, one := range []struct{ hint, outcome, user, reason string }{
			{b.user.Email, audit.Success, b.user.ID, ""},
			{"nobody@example.test", audit.Failure, "", "unknown person"},
			{muted.user.Email, audit.Failure, "", "muted by the person"},
		} {
			had := len(must(h.Audit.Rows(t.Context(), audit.Filter{Action: "request.ask"}, audit.Position{}, 100)))
			h.asked(t, c, "login_hint", one.hint)
			rows := must(h.Audit.Rows(t.Context(), audit.Filter{Action: "request.ask"}, audit.Position{}, 100))
			if len(rows) != had+1 {
				t.Fatalf("%s: %d lines, want one", one.hint, len(rows)-had)
			}
			last := rows[len(rows)-1]
			if last.Outcome != one.outcome || last.UserID != one.user || last.Detail["reason"] != one.reason {
				t.Errorf("%s: recorded %+v", one.hint, last)
			}
		}
	})
}

// Who knows an app's name could have this server decrypt all day, though the app has no keys by which what comes out could be signed.
func TestAttackStrangersHaveTheServerDecrypt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		object := h.toServer(t, "RSA-OAEP-256", "A256GCM", sign(t, "ES256", testKeys()["ES256"], nil, map[string]any{"iss": c.ID, "aud": testIssuer}), nil)
		got := b.authorize(t, h, c.params("request", object))
		if got.Get("error") != "invalid_request_object" || got.Get("error_description") != "The app has no keys registered by which it could sign a request object." {
			t.Errorf("got %v", got)
		}
	})
}

// The operator's own app needs no consent, so that none can be taken back: what a person takes out of its hands stays out all the same.
func TestAttackShrunkAppOfTheOperatorTakesItAllBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		c := w.service.Client
		c.FirstParty = true
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if a := w.person(t, nil, nil, "scope", "read send"); a.status != http.StatusOK {
			t.Fatalf("before: %v", a.body)
		}
		agent := w.b.agent(t)
		if err := h.ShrinkAgent(t.Context(), w.b.user.ID, agent.GrantID, agent.Scopes, []string{"read"}); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		wantError(t, w.person(t, nil, nil, "scope", "read send"), 400, "invalid_scope")
		for _, scope := range []string{"read", ""} {
			if a := w.person(t, nil, nil, "scope", scope); a.status != http.StatusOK || a.str("scope") != "read" {
				t.Errorf("%q: %v", scope, a.body)
			}
		}
		// It is let have more again by the person who ends what there is and begins anew, or by being asked like others.
		c.FirstParty = false
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.b.consent(t, w.service)
		if a := w.person(t, nil, nil, "scope", "read send"); a.status != http.StatusOK {
			t.Errorf("after a consent: %v", a.body)
		}
	})
}

// A platform gives each of its machines an assertion: none of them makes an app that registers itself one that the platform vouches for,
// and a statement, which apps hand around, gets nobody a token.
func TestAttackAssertionAsSoftwareStatement(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		const both = "https://platform.example.test"
		if err := h.Issuers().Create(t.Context(), Issuer{Issuer: both, JWKS: keySetOf("", "EdDSA"), For: []string{ForStatements, ForTokens}}); err != nil {
			t.Fatal(err)
		}
		_, token, err := h.Clients.CreateToken(t.Context(), "", 10, time.Hour, RegistrationPolicy{Statement: true})
		if err != nil {
			t.Fatal(err)
		}
		now := h.Now().Unix()
		for typ, status := range map[string]int{"": 400, "JWT": 400, typStatement: 201, "application/" + typStatement: 201} {
			signed := sign(t, "EdDSA", testKeys()["EdDSA"], map[string]any{"typ": typ}, map[string]any{
				"iss": both, "sub": machine, "aud": testIssuer, "jti": "id " + typ, "iat": now, "exp": now + 200, "repository": "thief/app",
			})
			if a := h.manage(t, "POST", registrationPath, token, aboutMe("software_statement", signed)); a.status != status {
				t.Errorf("typ %q: %d %v, want %d", typ, a.status, a.body, status)
			}
			c := h.client(t, func(c *Client) { c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantJWTBearer}, nil, nil })
			i := must(h.Issuers().Get(t.Context(), both))
			if _, err := h.Issuers().Permit(t.Context(), i, c.Client, Permit{Claims: map[string]string{"sub": machine}}); err != nil {
				t.Fatal(err)
			}
			a := h.post(t, "/token", c, url.Values{"grant_type": {GrantJWTBearer}, "assertion": {signed}})
			if got := a.status == http.StatusOK; got == (status == 201) {
				t.Errorf("typ %q: as an assertion: %d %v", typ, a.status, a.body)
			}
		}
	})
}
