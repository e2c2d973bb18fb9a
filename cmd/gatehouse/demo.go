package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

//go:embed demo
var demoFiles embed.FS

type demoSettings struct {
	Listen       string `env:"GATEHOUSE_DEMO_LISTEN" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the demo app. [${default}]"`
	File         string `env:"GATEHOUSE_DEMO_FILE" default:"./var/demo.env" placeholder:"PATH" help:"File with the three settings below, as serve --seed writes it. [${default}]"`
	Issuer       string `env:"GATEHOUSE_DEMO_ISSUER" placeholder:"URL" help:"The server. [from the file]"`
	ClientID     string `env:"GATEHOUSE_DEMO_CLIENT_ID" placeholder:"ID" help:"The demo app's client. [from the file]"`
	ClientSecret string `env:"GATEHOUSE_DEMO_CLIENT_SECRET" placeholder:"SECRET" help:"The client's secret. [from the file]"`
}

type demoCommand struct {
	Settings demoSettings `embed:""`
	Logging  logging      `embed:""`
}

// Run implements the command.
func (c *demoCommand) Run(t *terminal) error {
	if err := checkListen("listen", c.Settings.Listen); err != nil {
		return err
	}
	log := c.Logging.logger(t.stderr)
	app, err := startDemo(t.ctx, "", c.Settings, log)
	if err != nil {
		return err
	}
	defer app.stop()
	failed := make(chan error, 1)
	go func() { failed <- app.serve() }()
	err = t.print(map[string]string{"demo": app.url, "issuer": app.settings.Issuer}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The demo app is at %s and signs people in through %s\n", app.url, app.settings.Issuer)
	})
	if err != nil {
		return err
	}
	go app.waitForIssuer(t.ctx)
	select {
	case err := <-failed:
		return err
	case <-t.ctx.Done():
		return nil
	}
}

// Names of the demo's cookies. Cookies do not know ports, so they differ from the server's.
const (
	demoVisitorCookie = "demo-visitor"
	demoLoginCookie   = "demo-login-" // and the beginning of the state: each login has its own, so that tabs do not disturb each other
)

const (
	maxVisitors    = 1000
	visitorLife    = time.Hour
	demoLoginLife  = 10 * time.Minute
	demoScopes     = "openid profile email address phone offline_access"
	issuerPatience = time.Second
)

// demo is a small app that signs people in, written as any app would be: with coreos/go-oidc and x/oauth2, knowing
// nothing of Gatehouse but its issuer URL.
type demo struct {
	settings  demoSettings
	log       *slog.Logger
	url       string
	listener  net.Listener
	server    *http.Server
	templates *template.Template
	client    *http.Client

	mu       sync.Mutex
	found    *discovered
	visitors map[string]*visitor
}

// discovered is what the issuer tells about itself.
type discovered struct {
	provider   *oidc.Provider
	endSession string
	sendsIss   bool
}

// visitor is somebody who has signed in to the demo.
type visitor struct {
	expires  time.Time
	subject  string
	session  string // at the issuer: the sid claim
	raw      string // the ID token, to sign out with
	token    *oauth2.Token
	idToken  map[string]any
	userinfo map[string]any
	note     string
}

// startDemo opens the port; serve answers. Errors name settings with the prefix that the command gives them.
func startDemo(ctx context.Context, prefix string, s demoSettings, log *slog.Logger) (*demo, error) {
	if s.Issuer == "" || s.ClientID == "" || s.ClientSecret == "" {
		file, err := readDemoFile(s.File)
		if err != nil {
			return nil, badSetting(prefix+"file", "%v: start `gatehouse serve --seed` first, or set GATEHOUSE_DEMO_ISSUER, GATEHOUSE_DEMO_CLIENT_ID and GATEHOUSE_DEMO_CLIENT_SECRET", err)
		}
		for field, name := range map[*string]string{
			&s.Issuer: "GATEHOUSE_DEMO_ISSUER", &s.ClientID: "GATEHOUSE_DEMO_CLIENT_ID", &s.ClientSecret: "GATEHOUSE_DEMO_CLIENT_SECRET",
		} {
			if *field == "" {
				*field = file[name]
			}
		}
	}
	issuer, err := parseIssuer(s.Issuer)
	if err != nil {
		return nil, err
	}
	templates, err := template.New("").Funcs(template.FuncMap{"issuer": func() string { return s.Issuer }}).ParseFS(demoFiles, "demo/*.html")
	if err != nil {
		return nil, err
	}
	l, err := listen(ctx, prefix+"listen", s.Listen)
	if err != nil {
		return nil, err
	}
	d := &demo{
		settings: s, log: log, listener: l, url: "http://" + l.Addr().String(), templates: templates,
		client: &http.Client{Timeout: 10 * time.Second}, visitors: map[string]*visitor{},
	}
	mux := http.NewServeMux()
	web.Mount(mux, web.NewSite(&url.URL{Scheme: "http", Host: l.Addr().String()}), []web.Route{
		{Pattern: "GET /{$}", Handler: d.home},
		{Pattern: "POST /login", Handler: d.login},
		{Pattern: "GET /callback", Handler: d.callback},
		{Pattern: "POST /refresh", Handler: d.refresh},
		{Pattern: "POST /logout", Handler: d.logout},
		{Pattern: "POST /backchannel-logout", Handler: d.loggedOut},
		{Pattern: "GET /demo.css", Handler: file("demo/demo.css")},
		{Pattern: "GET /icon.svg", Handler: file("demo/icon.svg")},
	}, d.fail)
	// Chromium applies form-action to the redirect after a post as well, and both buttons lead to the issuer.
	csp := "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' " + issuer.Scheme + "://" + issuer.Host + "; frame-ancestors 'none'; base-uri 'none'"
	guarded := http.NewCrossOriginProtection().Handler(mux)
	d.server = newHTTPServer(web.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", csp)
		w.Header().Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	}), web.Options{Log: log.With("app", "demo")}), log)
	return d, nil
}

func (d *demo) serve() error { return serveHTTP(d.server, d.listener, nil) }

func (d *demo) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if d.server.Shutdown(ctx) != nil {
		_ = d.server.Close()
	}
	_ = d.listener.Close()
}

// waitForIssuer tells in the log when the issuer can be reached; the pages try again by themselves.
func (d *demo) waitForIssuer(ctx context.Context) {
	for said := false; ; {
		_, err := d.discover(ctx)
		if err == nil {
			d.log.Info("issuer found", "issuer", d.settings.Issuer)
			return
		}
		if !said {
			d.log.Warn("waiting for the issuer", "issuer", d.settings.Issuer, "err", err)
			said = true
		}
		select {
		case <-time.After(issuerPatience):
		case <-ctx.Done():
			return
		}
	}
}

// discover reads the issuer's metadata, once.
func (d *demo) discover(ctx context.Context) (*discovered, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found != nil {
		return d.found, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, d.client), d.settings.Issuer)
	if err != nil {
		return nil, err
	}
	var more struct {
		EndSession string `json:"end_session_endpoint"`
		SendsIss   bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&more); err != nil {
		return nil, err
	}
	if more.EndSession == "" {
		more.EndSession = d.settings.Issuer + "/logout"
	}
	d.found = &discovered{provider, more.EndSession, more.SendsIss}
	return d.found, nil
}

func (d *demo) oauth(found *discovered) *oauth2.Config {
	endpoint := found.provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return &oauth2.Config{
		ClientID: d.settings.ClientID, ClientSecret: d.settings.ClientSecret, Endpoint: endpoint,
		RedirectURL: d.url + "/callback", Scopes: strings.Fields(demoScopes),
	}
}

func (d *demo) home(w http.ResponseWriter, r *http.Request) error {
	v := d.visitor(r)
	if v == nil {
		return d.render(w, http.StatusOK, "home.html", nil)
	}
	page := visitorPage{
		Name: first(v.userinfo, "name", "preferred_username", "email", "sub"), Email: first(v.userinfo, "email"),
		Expires: moment(v.token.Expiry), CanRefresh: v.token.RefreshToken != "", Note: v.note,
		IDToken: rows(v.idToken), Userinfo: rows(v.userinfo),
	}
	page.Initial = strings.ToUpper(string([]rune(page.Name + "?")[0]))
	return d.render(w, http.StatusOK, "visitor.html", page)
}

func (d *demo) login(w http.ResponseWriter, r *http.Request) error {
	found, err := d.discover(r.Context())
	if err != nil {
		return unreachable(err)
	}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	// The cookie binds the answer to this browser: somebody else's answer finds no cookie here (login CSRF).
	http.SetCookie(w, &http.Cookie{
		Name: demoLoginCookie + state[:8], Value: state + "." + nonce + "." + verifier, Path: "/callback",
		MaxAge: int(demoLoginLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	target := d.oauth(found).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

func (d *demo) callback(w http.ResponseWriter, r *http.Request) error {
	found, err := d.discover(r.Context())
	if err != nil {
		return unreachable(err)
	}
	q := r.URL.Query()
	nonce, verifier, err := d.takeLogin(w, r, q.Get("state"))
	if err != nil {
		return err
	}
	// RFC 9207: an answer from another server must not be taken for this one's (mix-up).
	if iss := q.Get("iss"); iss != d.settings.Issuer && (found.sendsIss || iss != "") {
		return &demoError{http.StatusBadRequest, "The answer came from the wrong server", "It does not name " + d.settings.Issuer + " as its sender, so the demo does not trust it.", nil}
	}
	if code := q.Get("error"); code != "" {
		return refused(code)
	}
	ctx := oidc.ClientContext(r.Context(), d.client)
	token, err := d.oauth(found).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return &demoError{http.StatusBadGateway, "The code was not accepted", "A code works once and for one minute.", err}
	}
	idToken, err := d.verify(ctx, found, token)
	if err == nil && idToken.Nonce != nonce {
		err = errors.New("nonce of another login")
	}
	if err != nil {
		return &demoError{http.StatusBadGateway, "The ID token is not valid", "The demo checks its signature, issuer, audience, times, nonce and at_hash.", err}
	}
	v := &visitor{expires: time.Now().Add(visitorLife), subject: idToken.Subject, token: token}
	v.raw, _ = token.Extra("id_token").(string)
	if err := v.learn(ctx, found, idToken); err != nil {
		return &demoError{http.StatusBadGateway, "The profile could not be read", "The userinfo endpoint did not answer as it should.", err}
	}
	d.admit(w, v)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// takeLogin finds and ends the login that a state belongs to.
func (d *demo) takeLogin(w http.ResponseWriter, r *http.Request, state string) (nonce, verifier string, err error) {
	lost := &demoError{http.StatusBadRequest, "This sign-in is not known here", "It was begun in another browser, more than ten minutes ago, or is done already.", nil}
	if len(state) < 8 {
		return "", "", lost
	}
	name := demoLoginCookie + state[:8]
	c, err := r.Cookie(name)
	if err != nil {
		return "", "", lost
	}
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/callback", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	parts := strings.Split(c.Value, ".")
	if len(parts) != 3 || parts[0] != state {
		return "", "", lost
	}
	return parts[1], parts[2], nil
}

// verify checks the ID token of an answer, at_hash included.
func (d *demo) verify(ctx context.Context, found *discovered, token *oauth2.Token) (*oidc.IDToken, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New("no ID token in the answer")
	}
	idToken, err := found.provider.VerifierContext(oidc.ClientContext(context.WithoutCancel(ctx), d.client), &oidc.Config{ClientID: d.settings.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	return idToken, idToken.VerifyAccessToken(token.AccessToken)
}

// learn reads what ID token and userinfo say.
func (v *visitor) learn(ctx context.Context, found *discovered, idToken *oidc.IDToken) error {
	if err := idToken.Claims(&v.idToken); err != nil {
		return err
	}
	v.session, _ = v.idToken["sid"].(string)
	info, err := found.provider.UserInfo(ctx, oauth2.StaticTokenSource(v.token))
	if err != nil {
		return err
	}
	if info.Subject != v.subject {
		return errors.New("userinfo speaks of somebody else (OpenID Connect Core §5.3.4)")
	}
	return info.Claims(&v.userinfo)
}

func (d *demo) refresh(w http.ResponseWriter, r *http.Request) error {
	v := d.visitor(r)
	if v == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	found, err := d.discover(r.Context())
	if err != nil {
		return unreachable(err)
	}
	ctx := oidc.ClientContext(r.Context(), d.client)
	// A token source refreshes when the access token is over; without one it does so at once.
	token, err := d.oauth(found).TokenSource(ctx, &oauth2.Token{RefreshToken: v.token.RefreshToken}).Token()
	if err != nil {
		return &demoError{http.StatusBadGateway, "The tokens could not be refreshed", "You may have signed out, or withdrawn what you allowed. Sign in again.", err}
	}
	fresh := &visitor{expires: v.expires, subject: v.subject, session: v.session, raw: v.raw, token: token, idToken: v.idToken}
	if raw, _ := token.Extra("id_token").(string); raw != "" {
		idToken, err := d.verify(ctx, found, token)
		if err == nil && idToken.Subject != v.subject {
			err = errors.New("subject changed (OpenID Connect Core §12.2)")
		}
		if err == nil {
			err = fresh.learn(ctx, found, idToken)
		}
		if err != nil {
			return &demoError{http.StatusBadGateway, "The new ID token is not valid", "The demo keeps the old one.", err}
		}
	} else {
		fresh.userinfo = v.userinfo
	}
	fresh.note = "Refreshed at " + time.Now().UTC().Format("15:04:05 UTC") + ": the app holds new tokens."
	c, err := r.Cookie(demoVisitorCookie)
	if err != nil {
		return err
	}
	d.mu.Lock()
	if d.visitors[c.Value] != nil {
		d.visitors[c.Value] = fresh
	}
	d.mu.Unlock()
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// logout forgets the visitor here and then goes to the issuer, where the session of all apps ends, and comes back (OpenID Connect
// RP-Initiated Logout 1.0). The ID token shows the issuer that nobody else asks for it.
func (d *demo) logout(w http.ResponseWriter, r *http.Request) error {
	query := url.Values{"client_id": {d.settings.ClientID}, "post_logout_redirect_uri": {d.url + "/"}}
	if v := d.visitor(r); v != nil && v.raw != "" {
		query.Set("id_token_hint", v.raw)
	}
	if c, err := r.Cookie(demoVisitorCookie); err == nil {
		d.mu.Lock()
		delete(d.visitors, c.Value)
		d.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: demoVisitorCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	found, err := d.discover(r.Context())
	if err != nil {
		return unreachable(err)
	}
	http.Redirect(w, r, found.endSession+"?"+query.Encode(), http.StatusSeeOther)
	return nil
}

// loggedOut is called by the issuer when a session has ended there, wherever that was done (OpenID Connect Back-Channel
// Logout 1.0 §2.5). No browser is involved: the token says who must be forgotten.
func (d *demo) loggedOut(w http.ResponseWriter, r *http.Request) error {
	found, err := d.discover(r.Context())
	if err != nil {
		return unreachable(err)
	}
	var claims struct {
		Session string                     `json:"sid"`
		Events  map[string]json.RawMessage `json:"events"`
		Nonce   *string                    `json:"nonce"`
	}
	// Signature, issuer, audience and expiry as for an ID token; then what makes it a logout token and nothing else (§2.6).
	token, err := found.provider.VerifierContext(oidc.ClientContext(context.WithoutCancel(r.Context()), d.client), &oidc.Config{ClientID: d.settings.ClientID}).
		Verify(r.Context(), r.PostFormValue("logout_token"))
	if err == nil {
		err = token.Claims(&claims)
	}
	if _, ok := claims.Events["http://schemas.openid.net/event/backchannel-logout"]; err != nil || !ok || claims.Nonce != nil {
		d.log.WarnContext(r.Context(), "logout token refused", "err", err)
		http.Error(w, "not a logout token", http.StatusBadRequest)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, v := range d.visitors {
		if v.session == claims.Session && claims.Session != "" || claims.Session == "" && v.subject == token.Subject {
			delete(d.visitors, name)
		}
	}
	return nil
}

// file serves one of the embedded files.
func file(name string) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=300")
		http.ServeFileFS(w, r, demoFiles, name)
		return nil
	}
}

// visitor finds who is signed in, or nil.
func (d *demo) visitor(r *http.Request) *visitor {
	c, err := r.Cookie(demoVisitorCookie)
	if err != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.visitors[c.Value]
	if v == nil || time.Now().After(v.expires) {
		return nil
	}
	return v
}

// admit remembers v under a new random name. When the house is full the one who came first goes.
func (d *demo) admit(w http.ResponseWriter, v *visitor) {
	name := rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.visitors) >= maxVisitors {
		oldest := ""
		for n, v := range d.visitors {
			if oldest == "" || v.expires.Before(d.visitors[oldest].expires) {
				oldest = n
			}
		}
		delete(d.visitors, oldest)
	}
	d.visitors[name] = v
	http.SetCookie(w, &http.Cookie{
		Name: demoVisitorCookie, Value: name, Path: "/", MaxAge: int(visitorLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// demoError is an error in plain words, with the cause for the log.
type demoError struct {
	status     int
	Title, Why string
	cause      error
}

// Error implements error.
func (e *demoError) Error() string {
	if e.cause == nil {
		return e.Title
	}
	return e.Title + ": " + e.cause.Error()
}

func unreachable(err error) error {
	return &demoError{http.StatusServiceUnavailable, "The sign-in server does not answer", "It may still be starting.", err}
}

// refused explains an authorization error (RFC 6749 §4.1.2.1). The code comes through the browser, so the demo shows its own
// words for it.
func refused(code string) error {
	e := &demoError{http.StatusBadRequest, "Signing in did not work", "The sign-in server refused the request.", errors.New("error from the issuer")}
	switch code {
	case "access_denied":
		e.status, e.Title, e.Why = http.StatusOK, "You said no", "The demo learned nothing about you."
	case "temporarily_unavailable", "server_error":
		e.status, e.Why = http.StatusServiceUnavailable, "The sign-in server has a problem at the moment."
	case "invalid_request", "unauthorized_client", "invalid_scope", "unsupported_response_type", "login_required", "consent_required", "interaction_required":
		e.Why = "The sign-in server refused the request (" + code + ")."
	}
	return e
}

func (d *demo) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := &demoError{}
	if !errors.As(err, &e) {
		e = &demoError{http.StatusInternalServerError, "Something went wrong", "This is the demo's fault.", err}
	}
	if e.status >= http.StatusInternalServerError {
		d.log.ErrorContext(r.Context(), "demo failed", "path", r.URL.Path, "err", err)
	}
	if err := d.render(w, e.status, "error.html", e); err != nil {
		d.log.ErrorContext(r.Context(), "demo page failed", "err", err)
	}
}

type visitorPage struct {
	Name, Email, Initial string
	Expires              string
	CanRefresh           bool
	Note                 string
	IDToken, Userinfo    []claimRow
}

func (d *demo) render(w http.ResponseWriter, status int, name string, data any) error {
	var page strings.Builder
	if err := d.templates.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := io.WriteString(w, page.String())
	return err
}

// claimRow is one claim as a person can read it.
type claimRow struct{ Name, Value, Meaning string }

var claimMeanings = map[string]string{
	"iss": "who says so", "sub": "you, as this server knows you", "aud": "for whom it is meant", "exp": "good until", "iat": "issued",
	"auth_time": "when you last proved who you are", "nonce": "ties it to this sign-in", "at_hash": "ties it to the access token",
	"sid": "your session at the server", "acr": "how strongly you signed in", "amr": "by what means", "jti": "its number",
	"azp": "who asked for it", "updated_at": "profile last changed", "email_verified": "the address was proven to be yours",
	"phone_number_verified": "the number was proven to be yours",
}

func rows(claims map[string]any) []claimRow {
	out := make([]claimRow, 0, len(claims))
	for name, value := range claims {
		out = append(out, claimRow{name, readable(name, value), claimMeanings[name]})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func readable(name string, value any) string {
	switch value := value.(type) {
	case string:
		return value
	case bool:
		return yes(value)
	case float64:
		switch name {
		case "exp", "iat", "auth_time", "updated_at", "nbf":
			return moment(time.Unix(int64(value), 0))
		}
	case []any:
		words := make([]string, len(value))
		for i, v := range value {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, ", ")
	case map[string]any:
		var parts []string
		for _, row := range rows(value) {
			parts = append(parts, row.Name+": "+row.Value)
		}
		return strings.Join(parts, "\n")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }

// first gives the first of the named claims that says something.
func first(claims map[string]any, names ...string) string {
	for _, name := range names {
		if s, ok := claims[name].(string); ok && s != "" {
			return s
		}
	}
	return ""
}
