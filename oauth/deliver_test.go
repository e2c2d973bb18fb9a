package oauth

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// receiver is an app's back channel.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
	forms  []string
	status func(n int) int // of the nth answer, from 1; nil: 200
	hold   chan struct{}   // answers wait until it is closed
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.forms = append(r.forms, req.Method+" "+req.URL.Path+" "+req.Header.Get("Content-Type")+" "+string(body))
		if token, ok := strings.CutPrefix(string(body), "logout_token="); ok {
			r.tokens = append(r.tokens, token)
		}
		n, hold := len(r.forms), r.hold
		r.mu.Unlock()
		if hold != nil {
			<-hold
		}
		if r.status != nil {
			w.WriteHeader(r.status(n))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

func (r *receiver) hears(c *Client) { c.BackchannelLogoutURI = r.URL + "/backchannel" }

// deliver delivers what is due and waits for it.
func (h *harness) deliver(t testing.TB) {
	t.Helper()
	if err := h.Outbox.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Outbox.Wait()
}

// verifier checks tokens as an app would, with the library most Go apps use.
func (h *harness) verifier(t testing.TB, clientID string) *oidc.IDTokenVerifier {
	t.Helper()
	body, _, err := h.Keys.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	known := &oidc.StaticKeySet{}
	for _, k := range set.Keys {
		known.PublicKeys = append(known.PublicKeys, k.Key)
	}
	return oidc.NewVerifier(testIssuer, known, &oidc.Config{ClientID: clientID, Now: h.Now, SupportedSigningAlgs: []string{"RS256", "ES256", "EdDSA"}})
}

func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	ends := map[string]func(h *harness, b *browser) error{
		"signed out": func(h *harness, b *browser) error { return h.people.EndSession(b.t(), b.user.ID, b.session.ID) },
		"all others": func(h *harness, b *browser) error {
			_, err := h.people.EndSessions(b.t(), b.user.ID, "another")
			return err
		},
		"everything": func(h *harness, b *browser) error {
			_, err := h.people.EndSessions(b.t(), b.user.ID, "")
			return err
		},
		"disabled": func(h *harness, b *browser) error { return h.people.SetStatus(b.t(), b.user.ID, "disabled") },
		"erased":   func(h *harness, b *browser) error { return h.people.Delete(b.t(), b.user.ID) },
		"new password": func(h *harness, b *browser) error {
			return h.people.SetOneTimePassword(b.t(), b.user.ID, "another-"+testPassword)
		},
		"password reset by mail": func(h *harness, b *browser) error {
			link, err := h.people.NewLink(b.t(), b.user.ID, identity.Reset, "")
			if err == nil {
				_, err = h.people.ResetPassword(b.t(), link, "another-"+testPassword)
			}
			return err
		},
		"closed": func(h *harness, b *browser) error {
			_, err := h.people.AskErasure(b.t(), b.user.ID, b.session.ID, false)
			return err
		},
		"another person here": func(h *harness, b *browser) error {
			other, err := h.people.Create(b.t(), identity.NewUser{Email: "other-" + b.user.Email, Password: testPassword, EmailVerified: true})
			if err == nil {
				_, _, err = h.people.StartSession(b.t(), other.ID, []string{identity.AMRPassword}, identity.Device{}, b.token, time.Time{})
			}
			return err
		},
	}
	each(t, func(t *testing.T, h *harness) {
		for name, end := range ends {
			for _, scope := range []string{"openid", "openid offline_access"} {
				r, stranger := newReceiver(t), newReceiver(t)
				b := h.person(t)
				c := h.client(t, func(c *Client) { r.hears(c); c.IDTokenAlg = "RS256" })
				h.client(t, stranger.hears)
				_, idToken := claimsOf(t, b.tokens(t, c, "scope", scope).str("id_token"))
				h.deliver(t)
				if len(r.got()) != 0 {
					t.Fatalf("%s: told while the session lives", name)
				}
				if err := end(h, b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				h.deliver(t)
				h.deliver(t)
				got := r.got()
				if len(got) != 1 || len(stranger.got()) != 0 {
					t.Fatalf("%s (%s): the app was told %d times, one that was not used %d times; want 1, 0", name, scope, len(got), len(stranger.got()))
				}
				if want := "POST /backchannel application/x-www-form-urlencoded logout_token=" + got[0]; r.forms[0] != want {
					t.Errorf("%s: got %s", name, r.forms[0])
				}
				token, err := h.verifier(t, c.ID).Verify(t.Context(), got[0])
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				header, claims := claimsOf(t, got[0])
				events, _ := claims["events"].(map[string]any)
				event, _ := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any)
				if header["typ"] != "logout+jwt" || header["alg"] != "RS256" || token.Subject != idToken["sub"] || claims["sid"] != idToken["sid"] || claims["sid"] == nil ||
					len(events) != 1 || event == nil || len(event) != 0 || claims["nonce"] != nil || claims["jti"] == "" {
					t.Errorf("%s: %v %v", name, header, claims)
				}
				if age := token.Expiry.Sub(token.IssuedAt); age != 2*time.Minute {
					t.Errorf("%s: the token lives %s", name, age)
				}
			}
		}
	})
}

// Signing in again in the same browser carries the session on: nobody has left.
func TestSessionThatGoesOnTellsNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r, b := newReceiver(t), h.person(t)
		c := h.client(t, r.hears)
		b.code(t, c)
		b.signIn(t)
		h.deliver(t)
		if len(r.got()) != 0 {
			t.Error("told of a session that goes on")
		}
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		h.deliver(t)
		if len(r.got()) != 1 {
			t.Error("the app of the first sign-in was not told")
		}
	})
}

// ended is an app that is to be told of a sign-out.
func (h *harness) ended(t testing.TB, r *receiver) (*browser, registered) {
	t.Helper()
	b, c := h.person(t), h.client(t, r.hears)
	b.code(t, c)
	if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
		t.Fatal(err)
	}
	return b, c
}

func (h *harness) deliveries(t testing.TB, clientID string) []Delivery {
	t.Helper()
	list, err := h.Outbox.List(t.Context(), clientID, "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// An app that is down hears of it later, with the same jti, so that it can tell a repetition (replayed delivery).
func TestDeliveryIsRepeatedUntilTheAppHasIt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		r.status = func(n int) int {
			return []int{http.StatusInternalServerError, http.StatusBadRequest, http.StatusNoContent}[n-1]
		}
		b, c := h.ended(t, r)
		h.deliver(t)
		h.deliver(t) // not yet
		if list := h.deliveries(t, c.ID); len(r.got()) != 1 || len(list) != 1 || list[0].Status != DeliveryWaiting || list[0].Note != "the app answered 500" || list[0].Attempts != 1 {
			t.Fatalf("after one attempt: %d, %+v", len(r.got()), list)
		}
		for range 2 {
			h.advanceClock(longestPause)
			h.deliver(t)
		}
		list := h.deliveries(t, c.ID)
		if len(r.got()) != 3 || list[0].Status != DeliveryDelivered || list[0].Attempts != 3 || list[0].Note != "" || list[0].DoneAt.IsZero() {
			t.Fatalf("after three attempts: %d, %+v", len(r.got()), list)
		}
		var ids []any
		for _, token := range r.got() {
			_, claims := claimsOf(t, token)
			ids = append(ids, claims["jti"])
			if _, err := h.verifier(t, c.ID).Verify(t.Context(), token); err != nil && token == r.got()[2] {
				t.Errorf("the last token is stale: %v", err)
			}
		}
		if ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("jti differ: %v", ids)
		}
		rows, err := h.Audit.Rows(t.Context(), audit.Filter{Action: "delivery.logout", UserID: b.user.ID}, audit.Position{}, 10)
		if err != nil || len(rows) != 1 || rows[0].ClientID != c.ID || rows[0].Outcome != audit.Success {
			t.Errorf("audit: %+v, %v", rows, err)
		}
	})
}

func TestDeliveryIsGivenUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		answer := http.StatusServiceUnavailable
		r.status = func(int) int { return answer }
		b, c := h.ended(t, r)
		began := h.Now()
		for range maxAttempts + 3 {
			h.deliver(t)
			h.advanceClock(longestWait)
		}
		list := h.deliveries(t, c.ID)
		if len(r.got()) != maxAttempts || list[0].Status != DeliveryFailed {
			t.Fatalf("%d attempts, %+v", len(r.got()), list)
		}
		rows, err := h.Audit.Rows(t.Context(), audit.Filter{Action: "delivery.logout", Outcome: audit.Failure, UserID: b.user.ID}, audit.Position{}, 10)
		if err != nil || len(rows) != 1 {
			t.Errorf("audit: %+v, %v", rows, err)
		}
		answer = http.StatusOK
		if n, err := h.Outbox.Retry(t.Context(), c.ID); n != 1 || err != nil {
			t.Fatalf("retry: %d, %v", n, err)
		}
		h.deliver(t)
		if list := h.deliveries(t, c.ID); list[0].Status != DeliveryDelivered {
			t.Errorf("after the retry: %+v", list)
		}
		h.advanceClock(keptDeliveries - h.Now().Sub(began) + time.Hour)
		if err := h.Outbox.Purge(t.Context()); err != nil || len(h.deliveries(t, c.ID)) != 0 {
			t.Errorf("purge: %v; what is old is still there", err)
		}
	})
}

func TestWaitsGrow(t *testing.T) {
	t.Parallel()
	var least time.Duration
	for n := int64(1); n <= maxAttempts+100; n++ {
		d := wait(n)
		if d < firstWait/2 || d > longestWait || n < 8 && d < least {
			t.Errorf("wait after attempt %d is %s", n, d)
		}
		least = d
	}
}

// Several replicas deliver at once; each message goes out once (duplicate delivery).
func TestReplicasDeliverOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		c := h.client(t, r.hears)
		const sessions = 30
		for range sessions {
			b := h.person(t)
			b.code(t, c)
			if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for range 4 {
			replica := OpenOutbox(h.Outbox.OutboxConfig)
			all.Go(func() {
				for range 3 {
					if err := replica.Deliver(t.Context()); err != nil {
						t.Error(err)
					}
					replica.Wait()
				}
			})
		}
		all.Wait()
		seen := map[any]bool{}
		for _, token := range r.got() {
			_, claims := claimsOf(t, token)
			seen[claims["jti"]] = true
		}
		if len(seen) != sessions || len(r.got()) != sessions {
			t.Errorf("%d deliveries of %d messages, want %d of each", len(r.got()), len(seen), sessions)
		}
	})
}

// A process that dies in the middle of a delivery loses nothing.
func TestClaimOfADeadProcessIsTakenOver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		_, c := h.ended(t, r)
		claimed, err := h.Outbox.claim(t.Context(), c.ID)
		if err != nil || len(claimed) != 1 {
			t.Fatalf("claim: %d, %v", len(claimed), err)
		}
		h.deliver(t)
		if len(r.got()) != 0 {
			t.Fatal("delivered while another process holds it")
		}
		h.advanceClock(claimLife)
		h.deliver(t)
		if len(r.got()) != 1 {
			t.Error("lost with the process that held it")
		}
	})
}

// An app that never answers keeps its own messages waiting and nobody else's.
func TestSlowReceiverDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		slow, quick := newReceiver(t), newReceiver(t)
		slow.hold = make(chan struct{})
		h.ended(t, slow)
		_, c := h.ended(t, quick)
		if err := h.Outbox.Deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
		for len(quick.got()) == 0 { // fails by the test's own timeout
			time.Sleep(time.Millisecond)
		}
		b := h.person(t)
		b.code(t, c)
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		for len(quick.got()) < 2 {
			if err := h.Outbox.Deliver(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if len(slow.got()) != 1 {
			t.Errorf("the slow app was asked %d times at once, want 1", len(slow.got()))
		}
		close(slow.hold)
		h.Outbox.Wait()
	})
}

// An app's address leads into the server's own network, or answers with a redirect there (server-side request forgery).
func TestBackChannelSSRF(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		inside := newReceiver(t)
		guarded := h.Outbox.OutboxConfig
		guarded.Ask = outbound.New(outbound.Config{})
		strict := OpenOutbox(guarded)
		for _, address := range []string{inside.URL, "https://127.0.0.1:1/", "https://localhost/", "https://[::1]/", "https://169.254.169.254/latest", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/"} {
			_, c := h.ended(t, &receiver{Server: &httptest.Server{URL: address}})
			if err := strict.Deliver(t.Context()); err != nil {
				t.Fatal(err)
			}
			strict.Wait()
			list := h.deliveries(t, c.ID)
			if len(list) != 1 || list[0].Status != DeliveryWaiting || list[0].Note == "" || strings.Contains(list[0].Note, "127.0.0.1") {
				t.Errorf("%s: %+v", address, list)
			}
		}
		elsewhere := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
		defer elsewhere.Close()
		_, c := h.ended(t, &receiver{Server: elsewhere})
		h.deliver(t)
		if list := h.deliveries(t, c.ID); list[0].Note != "the app answered with a redirect" {
			t.Errorf("redirect: %+v", list)
		}
		if len(inside.got()) != 0 {
			t.Error("the server posted into its own network")
		}
	})
}

// The person is erased before the app could be told; the news still reaches it, and nothing but ids is kept for that.
func TestLogoutOutlivesErasure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r, b := newReceiver(t), h.person(t)
		c := h.client(t, r.hears)
		b.code(t, c)
		if err := h.people.Delete(t.Context(), b.user.ID); err != nil {
			t.Fatal(err)
		}
		entered, err := h.Outbox.Entered(t.Context(), b.user.ID)
		if err != nil || len(entered) != 0 {
			t.Errorf("apps of an erased person: %v, %v", entered, err)
		}
		h.deliver(t)
		got := r.got()
		if len(got) != 1 {
			t.Fatalf("told %d times, want 1", len(got))
		}
		if _, claims := claimsOf(t, got[0]); claims["sub"] != b.user.ID || claims["sid"] != b.session.ID {
			t.Errorf("got %v", claims)
		}
	})
}

func TestAppThatNoLongerListens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		_, c := h.ended(t, r)
		c.BackchannelLogoutURI = ""
		if err := h.Clients.Update(t.Context(), c.Client); err != nil {
			t.Fatal(err)
		}
		h.deliver(t)
		if list := h.deliveries(t, c.ID); len(r.got()) != 0 || list[0].Status != DeliveryFailed {
			t.Errorf("%d, %+v", len(r.got()), list)
		}
	})
}

// A server that stops puts back what it has not delivered.
func TestStoppingServerPutsBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		_, c := h.ended(t, r)
		ctx, stop := context.WithCancel(t.Context())
		claimed, err := h.Outbox.claim(ctx, c.ID)
		if err != nil || len(claimed) != 1 {
			t.Fatal(len(claimed), err)
		}
		stop()
		if err := h.Outbox.putBack(t.Context(), claimed); err != nil {
			t.Fatal(err)
		}
		if list := h.deliveries(t, c.ID); list[0].Attempts != 0 || list[0].Status != DeliveryWaiting {
			t.Errorf("%+v", list)
		}
		h.deliver(t)
		if len(r.got()) != 1 {
			t.Error("lost")
		}
	})
}

func TestFrontChannelPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		first := h.client(t, func(c *Client) {
			c.ID = "a" + strings.ToLower(b.user.ID)
			c.FrontchannelLogoutURI = "https://app.example.test/out?x=y"
		})
		second := h.client(t, func(c *Client) {
			c.ID = "b" + strings.ToLower(b.user.ID)
			c.FrontchannelLogoutURI = "https://app.example.test/bye"
		})
		h.client(t, func(c *Client) { c.FrontchannelLogoutURI = "https://app.example.test/unused" })
		b.code(t, first)
		b.code(t, second)
		pages, err := h.Outbox.FrontChannel(t.Context(), b.user.ID, b.session.ID)
		query := "iss=https%3A%2F%2Fid.example.test&sid=" + b.session.ID
		if want := []string{"https://app.example.test/out?x=y&" + query, "https://app.example.test/bye?" + query}; err != nil || !slices.Equal(pages, want) {
			t.Errorf("got %q, %v; want %q", pages, err, want)
		}
		if pages, err := h.Outbox.FrontChannel(t.Context(), "somebody-else", b.session.ID); err != nil || len(pages) != 0 {
			t.Errorf("of another person: %q, %v", pages, err)
		}
	})
}
