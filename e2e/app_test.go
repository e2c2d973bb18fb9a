package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

const (
	redirectURI = "http://127.0.0.1:9/callback" // nobody listens: the tests look at where they are sent
	afterLogout = "http://127.0.0.1:9/bye"
	password    = "kontra-melone-72-fisch"
)

// app is a relying party on coreos/go-oidc and x/oauth2, which share no code with the server.
type app struct {
	t        *testing.T
	server   *rig.Server
	client   rig.Client
	provider *oidc.Provider
	config   oauth2.Config
}

func newApp(t *testing.T, s *rig.Server, args ...string) *app {
	t.Helper()
	client, err := s.NewClient(t.Context(), "E2E app", redirectURI, args...)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := oidc.NewProvider(t.Context(), s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	return &app{t: t, server: s, client: client, provider: provider, config: oauth2.Config{
		ClientID: client.ID, ClientSecret: client.Secret, RedirectURL: redirectURI,
		Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess},
	}}
}

func newUser(t *testing.T, s *rig.Server, email string) (id string) {
	t.Helper()
	id, err := s.NewUser(t.Context(), email, password)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// signIn takes a person through the pages and returns the code and its PKCE verifier.
func (a *app) signIn(b *rig.Browser, email string, options ...oauth2.AuthCodeOption) (code, verifier string) {
	a.t.Helper()
	verifier = oauth2.GenerateVerifier()
	state := `state with "odd" bytes & = % ü`
	options = append(options, oauth2.S256ChallengeOption(verifier))
	page, err := b.SignIn(a.config.AuthCodeURL(state, options...), email, password)
	if err != nil {
		a.t.Fatal(err)
	}
	answer := page.URL.Query()
	if !strings.HasPrefix(page.URL.String(), redirectURI+"?") || answer.Get("code") == "" {
		a.t.Fatalf("sent to %s, want a code at %s", page.URL, redirectURI)
	}
	if got := answer.Get("state"); got != state {
		a.t.Errorf("state: got %q, want %q", got, state)
	}
	if got := answer.Get("iss"); got != a.server.Issuer {
		a.t.Errorf("iss: got %q, want %q (RFC 9207)", got, a.server.Issuer)
	}
	return answer.Get("code"), verifier
}

// tokens does the same to the end.
func (a *app) tokens(email string) *oauth2.Token {
	a.t.Helper()
	code, verifier := a.signIn(rig.NewBrowser(a.server.Issuer), email)
	token, err := a.config.Exchange(a.t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

// answer of the token endpoint, whatever it says.
type answer struct {
	Status       int
	Error        string `json:"error"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Active       bool   `json:"active"`
}

// post sends a form to an endpoint as the client, with Basic authentication.
func (a *app) post(path string, values url.Values) (answer, error) {
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.server.Issuer+path, strings.NewReader(values.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(a.client.ID), url.QueryEscape(a.client.Secret))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	out := answer{Status: resp.StatusCode}
	if len(body) > 0 {
		err = json.Unmarshal(body, &out)
	}
	return out, err
}

func (a *app) active(token string) bool {
	a.t.Helper()
	got, err := a.post("/introspect", url.Values{"token": {token}})
	if err != nil || got.Status != http.StatusOK {
		a.t.Fatalf("introspect: %d, %v", got.Status, err)
	}
	return got.Active
}

func (a *app) refresh(token string) (answer, error) {
	return a.post("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}
