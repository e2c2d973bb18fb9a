package ui

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
	"github.com/gatehouse-id/gatehouse/migrations"
	"github.com/gatehouse-id/gatehouse/oauth"
)

const (
	alice    = "alice@example.com"
	password = "correct horse battery staple"
	callback = "https://app.example.org/callback"
)

// world is a whole server without a network: real people, real protocol, mails in a local inbox.
type world struct {
	db      *db.DB
	site    web.Site
	people  *identity.Directory
	clients *oauth.Clients
	outbox  *oauth.Outbox
	others  *upstream.Providers
	server  *oauth.Server
	pages   *Pages
	inbox   *mail.Inbox
	clock   *clock
	handler http.Handler
}

// clock stands still until a test moves it. It starts a little in the past, since fosite compares with the
// real one and refuses what is in the future.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// ring is shared by the tests of the package, since finding an RSA key takes a while.
var ring struct {
	once sync.Once
	*keys.Ring
	err error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gatehouse-ui")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ringDir = dir
	code := m.Run()
	if ring.Ring != nil {
		ring.Close()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var ringDir string

func sharedRing(t testing.TB) *keys.Ring {
	t.Helper()
	ring.once.Do(func() {
		ctx := context.Background()
		d, err := db.Open(ctx, "sqlite:"+filepath.Join(ringDir, "keys.db"))
		if err == nil {
			_, err = migrations.Apply(ctx, d.Engine(), d.SQL())
		}
		if err != nil {
			ring.err = err
			return
		}
		log := slog.New(slog.DiscardHandler)
		ring.Ring, ring.err = keys.Open(ctx, keys.Config{DB: d, Seal: testSealer(t), Audit: audit.New(d, log, nil), Log: log, TokenLife: 24 * time.Hour})
	})
	if ring.err != nil {
		t.Fatalf("keys: %v", ring.err)
	}
	return ring.Ring
}

func testSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	s, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld gives a world with registration open; change may adjust the pages' configuration.
func newWorld(t testing.TB, change ...func(c *Config)) *world {
	t.Helper()
	return newWorldAt(t, "https://id.example.test", change...)
}

func newWorldAt(t testing.TB, address string, change ...func(c *Config)) *world {
	t.Helper()
	issuer, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{site: web.NewSite(issuer), clock: &clock{at: time.Now().Add(-5 * time.Minute).Truncate(time.Second)}}
	d, mem := stores(t, w.clock.now)
	w.db = d
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	sealer := testSealer(t)
	acts, err := audit.Open(t.Context(), d, sealer, log, w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	revocations := oauth.OpenRevocations(d, w.clock.now)
	refreshKey, err := sealer.Secret(t.Context(), d, "refresh-token")
	must(err)
	grants := oauth.OpenGrants(oauth.GrantsConfig{DB: d, Audit: acts, Revocations: revocations, Key: refreshKey, Now: w.clock.now})
	w.clients, err = oauth.OpenClients(t.Context(), oauth.ClientsConfig{DB: d, Seal: sealer, Audit: acts, Now: w.clock.now})
	must(err)
	w.outbox = oauth.OpenOutbox(oauth.OutboxConfig{
		DB: d, Audit: acts, Log: log, Seal: sealer, Clients: w.clients, Grants: grants, Site: w.site, Keys: sharedRing(t), Now: w.clock.now,
		Ask: outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	w.people, err = identity.New(t.Context(), identity.Config{Origin: w.site.Origin(), DB: d, Cache: mem, Seal: sealer, Audit: acts, Log: log, Now: w.clock.now, Revoke: w.outbox.EndUser, RevokeDevices: w.outbox.EndDevices})
	must(err)
	c := Config{
		Site: w.site, People: w.people, Cache: mem, Audit: acts, Log: log, Registration: true, Invitations: true, RequireVerifiedEmail: true, Now: w.clock.now,
	}
	w.others, err = upstream.OpenProviders(t.Context(), d, sealer, acts, w.clock.now)
	must(err)
	c.Upstream, err = upstream.New(upstream.Config{
		Providers: w.others, Cache: mem, Now: w.clock.now, Client: outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: tripTimeout}),
		Callback: func(provider string) string { return w.site.URL("/login/" + provider + "/callback") },
	})
	must(err)
	w.inbox = mail.NewInbox(log)
	c.Mail, c.Inbox = w.inbox, w.inbox
	for _, f := range change {
		f(&c)
	}
	w.site = c.Site
	w.server, err = oauth.New(oauth.Config{
		Site: w.site, DB: d, Cache: mem, Seal: sealer, Keys: sharedRing(t), People: w.people, Consents: consent.New(d, acts, w.clock.now),
		Outbox: w.outbox, Clients: w.clients, Grants: grants, Revocations: revocations, RefreshKey: refreshKey, Audit: acts, Log: log, Now: w.clock.now,
		RequireVerifiedEmail: c.RequireVerifiedEmail, SignInPolicy: c.SignInPolicy,
	})
	must(err)
	c.OAuth = w.server
	w.pages, err = New(c)
	must(err)
	w.server.SetErrorPage(w.pages.OAuthError)
	w.server.SetAsked(w.pages.MailRequest)
	mux := http.NewServeMux()
	web.Mount(mux, w.site, w.server.Routes(), w.pages.Error)
	web.Mount(mux, w.site, w.pages.Routes(), w.pages.Error)
	w.handler = web.Wrap(mux, web.Options{Log: log, Secure: true})
	return w
}

// person creates a person with a proven address and the password of this file.
func (w *world) person(t testing.TB, email string) identity.User {
	t.Helper()
	u, err := w.people.Create(t.Context(), identity.NewUser{Email: email, Password: password, EmailVerified: true})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// enrol turns two-step sign-in on and returns a source of codes and the recovery codes.
func (w *world) enrol(t testing.TB, u identity.User) (next func() string, recovery []string) {
	t.Helper()
	e, err := w.people.BeginTOTP(t.Context(), u.ID, "Gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	next = func() string {
		t.Helper()
		w.clock.forward(30 * time.Second) // each code works once
		code, err := totp.GenerateCode(e.Secret, w.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	code := next()
	_, s, err := w.people.StartSession(t.Context(), u.ID, []string{identity.AMRPassword, identity.AMRMFA}, identity.Device{}, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if recovery, err = w.people.ConfirmTOTP(t.Context(), s, code); err != nil {
		t.Fatal(err)
	}
	if err := w.people.EndSession(t.Context(), u.ID, s.ID); err != nil {
		t.Fatal(err)
	}
	return next, recovery
}

// notMe makes the link of a notice.
func (w *world) notMe(t testing.TB, userID string, about identity.Act) (token string) {
	t.Helper()
	token, err := w.people.NewNotMeLink(t.Context(), userID, about)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// app registers a client that asks for consent.
func (w *world) app(t testing.TB, change ...func(c *oauth.Client)) oauth.Client {
	t.Helper()
	c := oauth.Client{
		Name: "Demo app", RedirectURIs: []string{callback}, AuthMethod: oauth.AuthNone, RequirePKCE: true, ClientURI: "https://app.example.org",
		LogoURI: "https://cdn.example.org/logo.png", PolicyURI: "https://app.example.org/privacy", TOSURI: "https://app.example.org/terms", Owner: "Example Ltd",
	}
	for _, f := range change {
		f(&c)
	}
	c, _, err := w.clients.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// authorize is the request of an app; extra replaces or adds parameters.
func authorize(c oauth.Client, extra url.Values) string {
	q := url.Values{
		"client_id": {c.ID}, "redirect_uri": {c.RedirectURIs[0]}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"some-state-of-the-app"},
		"nonce": {"some-nonce-of-the-app"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	for name, values := range extra {
		q[name] = values
	}
	return "/authorize?" + q.Encode()
}

// mailLink waits for the mails behind all answers and gives the link in the newest one.
func (w *world) mailLink(t testing.TB, to string) string {
	t.Helper()
	m := w.mailTo(t, to)
	for _, word := range strings.Fields(m.Text) {
		if strings.HasPrefix(word, w.site.URL("/")) && strings.Contains(word, "t=") {
			return strings.TrimPrefix(word, w.site.Origin())
		}
	}
	t.Fatalf("no link in the mail:\n%s", m.Text)
	return ""
}

func (w *world) mailTo(t testing.TB, to string) mail.Received {
	t.Helper()
	w.pages.Wait()
	for _, m := range w.inbox.Messages() {
		if m.To == to {
			return m
		}
	}
	t.Fatalf("no mail to %s", to)
	return mail.Received{}
}

// signIn signs a browser in by password.
func (b *browser) signIn(email string) page {
	b.t.Helper()
	return b.press(b.get("/login").want(http.StatusOK, "email", "password"), "login-submit", map[string]string{"email": email, "password": password})
}

// forbidden fails if the text holds one of the words.
func forbidden(t testing.TB, text string, words ...string) {
	t.Helper()
	if i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(text, w) }); i >= 0 {
		t.Errorf("%q must not be in:\n%s", words[i], text)
	}
}
