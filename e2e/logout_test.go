package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// leaver is an app that signs people out by every way there is.
type leaver struct {
	*app
	site *httptest.Server

	mu     sync.Mutex
	code   string
	front  []url.Values
	tokens []string
	hang   chan struct{} // the front channel waits for it
}

func newLeaver(t *testing.T, s *rig.Server) *leaver {
	t.Helper()
	l := &leaver{}
	mux := http.NewServeMux()
	page := func(id string, heard func(r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			l.mu.Lock()
			heard(r)
			hang := l.hang
			l.mu.Unlock()
			if id == "front" && hang != nil {
				<-hang
			}
			_, _ = fmt.Fprintf(w, `<!doctype html><title>%s</title><link rel="icon" href="data:,"><p id="%s">%s</p>`, id, id, id)
		}
	}
	mux.HandleFunc("GET /callback", page("arrived", func(r *http.Request) { l.code = r.URL.Query().Get("code") }))
	mux.HandleFunc("GET /front", page("front", func(r *http.Request) { l.front = append(l.front, r.URL.Query()) }))
	mux.HandleFunc("POST /back", page("back", func(r *http.Request) { l.tokens = append(l.tokens, r.PostFormValue("logout_token")) }))
	mux.HandleFunc("GET /bye", page("bye", func(*http.Request) {}))
	l.site = httptest.NewServer(mux)
	t.Cleanup(l.site.Close)
	client, err := s.NewClient(t.Context(), "Leaver", l.site.URL+"/callback", "--first-party",
		"--post-logout-redirect-uri", l.site.URL+"/bye", "--frontchannel-logout-uri", l.site.URL+"/front?x=y", "--backchannel-logout-uri", l.site.URL+"/back")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := oidc.NewProvider(t.Context(), s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	l.app = &app{t: t, server: s, client: client, provider: provider, config: oauth2.Config{
		ClientID: client.ID, ClientSecret: client.Secret, RedirectURL: l.site.URL + "/callback", Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID},
	}}
	return l
}

// enter takes the window into the app and returns its ID token.
func (l *leaver) enter(w *window, email string) (raw string, token *oidc.IDToken) {
	l.t.Helper()
	verifier := oauth2.GenerateVerifier()
	w.open(l.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))
	if w.has("login-submit") {
		w.fill("email", email)
		w.fill("password", password)
		w.click("login-submit")
	}
	w.see("arrived")
	l.mu.Lock()
	code := l.code
	l.mu.Unlock()
	got, err := l.config.Exchange(l.t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		l.t.Fatal(err)
	}
	raw, _ = got.Extra("id_token").(string)
	if token, err = l.provider.Verifier(&oidc.Config{ClientID: l.client.ID}).Verify(l.t.Context(), raw); err != nil {
		l.t.Fatal(err)
	}
	return raw, token
}

func (l *leaver) endSession(hint string) string {
	l.t.Helper()
	var m struct {
		EndSession string `json:"end_session_endpoint"`
		Back       bool   `json:"backchannel_logout_supported"`
		Front      bool   `json:"frontchannel_logout_supported"`
	}
	if err := l.provider.Claims(&m); err != nil || m.EndSession == "" || !m.Back || !m.Front {
		l.t.Fatalf("metadata: %+v, %v", m, err)
	}
	return m.EndSession + "?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {l.site.URL + "/bye"}, "state": {"ü &="}}.Encode()
}

// gone waits until the app was told by both ways, and checks what it was told.
func (l *leaver) gone(sid, sub string) {
	l.t.Helper()
	var front []url.Values
	var tokens []string
	for range 200 {
		l.mu.Lock()
		front, tokens = slices.Clone(l.front), slices.Clone(l.tokens)
		l.mu.Unlock()
		if len(tokens) > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(front) != 1 || front[0].Get("iss") != l.server.Issuer || front[0].Get("sid") != sid || front[0].Get("x") != "y" {
		l.t.Errorf("front channel: %v, want one call with sid %s", front, sid)
	}
	if len(tokens) != 1 {
		l.t.Fatalf("back channel: %d calls, want 1", len(tokens))
	}
	token, err := l.provider.Verifier(&oidc.Config{ClientID: l.client.ID}).Verify(l.t.Context(), tokens[0])
	if err != nil {
		l.t.Fatal(err)
	}
	var claims struct {
		SID    string                    `json:"sid"`
		Nonce  *string                   `json:"nonce"`
		Events map[string]map[string]any `json:"events"`
	}
	if err := token.Claims(&claims); err != nil || token.Subject != sub || claims.SID != sid || claims.Nonce != nil || claims.Events["http://schemas.openid.net/event/backchannel-logout"] == nil {
		l.t.Errorf("logout token: %+v, %v", claims, err)
	}
}

func sidOf(t *testing.T, token *oidc.IDToken) string {
	t.Helper()
	var claims struct {
		SID string `json:"sid"`
	}
	if err := token.Claims(&claims); err != nil || claims.SID == "" {
		t.Fatalf("sid: %v", err)
	}
	return claims.SID
}

// A person signs out of one app, and with it of the server and of the other app, in a real browser.
func TestLogoutInChromium(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := setup(t)
			set.Env = append(slices.Clone(set.Env), "GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8")
			s := start(t, set)
			newUser(t, s, "ada@example.test")
			one, two := newLeaver(t, s), newLeaver(t, s)
			w := newWindow(t)
			hint, token := one.enter(w, "ada@example.test")
			two.enter(w, "ada@example.test")

			w.open(one.endSession(hint))
			w.see("bye")
			if got, want := w.location().String(), one.site.URL+"/bye?state=%C3%BC+%26%3D"; got != want {
				t.Errorf("the browser is at %s, want %s", got, want)
			}
			one.gone(sidOf(t, token), token.Subject)
			two.gone(sidOf(t, token), token.Subject)
			w.open(one.config.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none"), oauth2.S256ChallengeOption("x"+strings.Repeat("y", 42))))
			if got := w.location().Query().Get("error"); got != "login_required" {
				t.Errorf("after signing out prompt=none answers %q, want login_required", got)
			}

			// Another session, asked about, with an app whose page never comes: the person is not kept waiting for ever.
			hint, _ = one.enter(w, "ada@example.test")
			two.enter(w, "ada@example.test")
			two.mu.Lock()
			two.hang = make(chan struct{})
			two.mu.Unlock()
			defer close(two.hang)
			w.open(s.Issuer + "/logout?" + url.Values{"client_id": {one.client.ID}, "post_logout_redirect_uri": {one.site.URL + "/bye"}}.Encode())
			w.see("logout-confirm")
			w.shot("logout-asked")
			w.do("confirm", chromedp.Click(chromedp.ID("logout-confirm"), chromedp.NodeVisible))
			w.see("bye")
			if hint == "" {
				t.Error("no ID token")
			}

			var list []struct {
				Kind, Status string
			}
			if err := s.Command(t.Context(), &list, "delivery", "list"); err != nil || len(list) < 2 || list[len(list)-1].Kind != "logout" || list[len(list)-1].Status != "delivered" {
				t.Errorf("delivery list: %+v, %v", list, err)
			}
		})
	}
}
