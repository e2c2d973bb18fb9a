package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
)

const (
	testIssuer   = "https://id.example.test"
	testRedirect = "https://app.example.test/callback"
	testPassword = "ochre-lantern-42-meadow"
)

// harness is a whole server without its pages, on one pair of stores.
type harness struct {
	*Server
	people  *identity.Directory
	handler http.Handler
	offset  *atomic.Int64 // added to the clock, in nanoseconds
	page    ErrorPage     // the last error page
}

// each runs f on SQLite with the in-process cache, and on Postgres with Redis.
func each(t *testing.T, f func(t *testing.T, h *harness)) {
	t.Helper()
	t.Run("sqlite+memory", func(t *testing.T) {
		t.Parallel()
		f(t, newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(nil)))
	})
	t.Run("postgres+redis", func(t *testing.T) {
		t.Parallel()
		f(t, newHarness(t, dbtest.OpenPostgres(t), cachetest.Redis(t, nil)))
	})
}

func newHarness(t testing.TB, d *db.DB, c cache.Cache) *harness {
	t.Helper()
	ctx := t.Context()
	h := &harness{offset: &atomic.Int64{}}
	now := func() time.Time { return time.Now().Add(time.Duration(h.offset.Load())) }
	log := slog.New(slog.DiscardHandler)
	master := make([]byte, seal.KeySize)
	_, _ = rand.Read(master)
	sealer := must(seal.New(master))
	trail := audit.New(d, log, now)
	ring := must(keys.Open(ctx, keys.Config{DB: d, Seal: sealer, Log: log, Audit: trail, Now: now, TokenLife: time.Hour}))
	t.Cleanup(ring.Close)
	revocations := OpenRevocations(d, now)
	refreshKey := must(sealer.Secret(ctx, d, "refresh-token"))
	grants := OpenGrants(GrantsConfig{DB: d, Audit: trail, Revocations: revocations, Key: refreshKey, Now: now})
	clients := must(OpenClients(ctx, ClientsConfig{DB: d, Seal: sealer, Audit: trail, Now: now}))
	issuer := must(url.Parse(testIssuer))
	outbox := OpenOutbox(OutboxConfig{
		DB: d, Audit: trail, Log: log, Seal: sealer, Clients: clients, Grants: grants, Site: web.NewSite(issuer), Keys: ring, Now: now,
		Ask: outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	trail.Tell(outbox.Heard)
	people := must(identity.New(ctx, identity.Config{DB: d, Cache: c, Seal: sealer, Audit: trail, Log: log, Now: now, Revoke: outbox.EndUser, RevokeDevices: outbox.EndDevices}))
	server, err := New(Config{
		Site: web.NewSite(issuer), DB: d, Cache: c, Seal: sealer, Keys: ring, People: people, Consents: consent.New(d, trail, now),
		Outbox: outbox, Clients: clients, Grants: grants, Revocations: revocations, RefreshKey: refreshKey,
		Audit: trail, Log: log, Now: now, RequireVerifiedEmail: true, SignInPolicy: identity.ACRPassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.SetErrorPage(func(w http.ResponseWriter, _ *http.Request, e ErrorPage) {
		h.page = e
		w.WriteHeader(e.Status)
		_, _ = io.WriteString(w, "error page: "+e.Code)
	})
	mux := http.NewServeMux()
	web.Mount(mux, server.Site, server.Routes(), func(w http.ResponseWriter, _ *http.Request, err error) {
		t.Errorf("handler returned an error: %v", err)
		w.WriteHeader(http.StatusInternalServerError)
	})
	h.Server, h.people = server, people
	h.handler = http.MaxBytesHandler(mux, 64<<10)
	return h
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (h *harness) advanceClock(d time.Duration) { h.offset.Add(int64(d)) }

// registered is a client with its secret.
type registered struct {
	Client
	secret string
}

// client registers a confidential client that uses ES256; edit may change it first.
func (h *harness) client(t testing.TB, edit func(c *Client)) registered {
	t.Helper()
	c := Client{
		Name: "Test app", RedirectURIs: []string{testRedirect}, RequirePKCE: true, IDTokenAlg: "ES256",
		Scopes: append([]string{"read", "write"}, standardScopes...), GrantTypes: []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials},
	}
	if edit != nil {
		edit(&c)
	}
	created, secret, err := h.Clients.Create(t.Context(), c)
	if err != nil {
		t.Fatalf("create client: %v", err)
	}
	return registered{created, secret}
}

func public(c *Client) {
	c.AuthMethod = AuthNone
	c.GrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}
}

// browser is a person signed in.
type browser struct {
	h       *harness
	user    identity.User
	session identity.Session
	token   string
}

// person creates an account and signs it in.
func (h *harness) person(t testing.TB) *browser {
	t.Helper()
	user, err := h.people.Create(t.Context(), identity.NewUser{
		Email: strings.ToLower(rand.Text()) + "@example.test", Password: testPassword, EmailVerified: true, Role: "user",
		Profile: identity.Profile{Name: "Ada Example", GivenName: "Ada", PhoneNumber: "+4930123456", Address: identity.Address{Country: "DE"}},
	})
	if err != nil {
		t.Fatalf("create person: %v", err)
	}
	b := &browser{h: h, user: user}
	b.signIn(t)
	return b
}

func (b *browser) signIn(t testing.TB) {
	t.Helper()
	var err error
	b.token, b.session, err = b.h.people.StartSession(t.Context(), b.user.ID, []string{identity.AMRPassword}, identity.Device{Address: netip.MustParseAddr("192.0.2.1")}, b.token, time.Time{})
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
}

// get asks as the person's browser; nil is a browser without a session.
func (b *browser) get(h *harness, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	b.cookie(h, r)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

func (b *browser) cookie(h *harness, r *http.Request) {
	if b == nil {
		return
	}
	w := httptest.NewRecorder()
	h.Site.SetSessionToken(w, b.token, time.Now().Add(time.Hour))
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
}

const testVerifier = "a-code-verifier-with-enough-characters-0123456789"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// params are a complete authorization request; edits replace or ("") remove parameters.
func (c registered) params(edits ...string) url.Values {
	v := url.Values{
		"client_id": {c.ID}, "redirect_uri": {testRedirect}, "response_type": {"code"}, "scope": {"openid email offline_access"},
		"state": {"s"}, "nonce": {"n-0S6_WzA2Mj"}, "code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(edits); i += 2 {
		if edits[i+1] == "" {
			v.Del(edits[i])
		} else {
			v.Set(edits[i], edits[i+1])
		}
	}
	return v
}

// consent remembers that the person allowed the client everything.
func (b *browser) consent(t testing.TB, c registered) {
	t.Helper()
	if err := b.h.Consents.Remember(t.Context(), b.user.ID, c.ID, c.Scopes, ConsentTextVersion); err != nil {
		t.Fatal(err)
	}
}

// authorize asks for a code and returns the parameters of the redirect to the app.
func (b *browser) authorize(t testing.TB, h *harness, v url.Values) url.Values {
	t.Helper()
	w := b.get(h, "/authorize?"+v.Encode())
	if w.Code != http.StatusSeeOther {
		t.Fatalf("authorize: status %d, want 303; body %s", w.Code, w.Body)
	}
	u := must(url.Parse(w.Header().Get("Location")))
	if !strings.HasPrefix(u.String(), "https://app.example.test/") {
		t.Fatalf("authorize led to %s, want the app", u)
	}
	return u.Query()
}

// code signs through and returns a code, with remembered consent.
func (b *browser) code(t testing.TB, c registered, edits ...string) string {
	t.Helper()
	b.consent(t, c)
	q := b.authorize(t, b.h, c.params(edits...))
	if q.Get("code") == "" {
		t.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

// answer is a JSON answer.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

// post sends a form as a client: with Basic, or client_id alone for a public one; an empty client sends neither.
func (h *harness) post(t testing.TB, path string, c registered, form url.Values) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	if c.ID != "" && c.Public() {
		form.Set("client_id", c.ID)
		r = httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	} else if c.ID != "" {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.secret))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return h.do(t, r)
}

func (h *harness) do(t testing.TB, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			t.Fatalf("answer is not JSON: %v: %s", err, w.Body)
		}
	}
	return a
}

func exchangeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {testRedirect}, "code_verifier": {testVerifier}}
}

func (h *harness) exchangeCode(t testing.TB, c registered, code string) answer {
	t.Helper()
	return h.post(t, "/token", c, exchangeForm(code))
}

func (h *harness) refreshToken(t testing.TB, c registered, token string) answer {
	t.Helper()
	return h.post(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// tokens runs the whole flow.
func (b *browser) tokens(t testing.TB, c registered, edits ...string) answer {
	t.Helper()
	a := b.h.exchangeCode(t, c, b.code(t, c, edits...))
	if a.status != http.StatusOK {
		t.Fatalf("exchange: %d %v", a.status, a.body)
	}
	return a
}

func (h *harness) introspectToken(t testing.TB, c registered, token string) bool {
	t.Helper()
	a := h.post(t, "/introspect", c, url.Values{"token": {token}})
	if a.status != http.StatusOK {
		t.Fatalf("introspect: %d %v", a.status, a.body)
	}
	active, _ := a.body["active"].(bool)
	return active
}

func (h *harness) userinfoAnswer(t testing.TB, token string) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return h.do(t, r)
}

func wantError(t testing.TB, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.str("error") != code {
		t.Errorf("got %d %v, want %d %s", a.status, a.body, status, code)
	}
}

func claimsOf(t testing.TB, token string) (header, body map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %s", token)
	}
	for i, into := range []*map[string]any{&header, &body} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, body
}

// t is the context of a step of the matrix.
func (b *browser) t() context.Context { return context.Background() }
