package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// apache is a web server with mod_auth_openidc, as Debian ships both, in front of a site that knows nothing of signing in:
// what it learns of a person it learns from the headers that the module sets.
type apache struct {
	URL string
	log string
}

// apacheConfig stands alone: nothing of a system's own configuration is read. %[1]s is the directory, %[2]s the modules',
// %[3]s the address, %[4]s the site's, %[5]s what is said of the provider and of Apache as its client.
const apacheConfig = `
ServerName 127.0.0.1
ServerRoot "%[1]s"
DefaultRuntimeDir "%[1]s"
PidFile "%[1]s/pid"
ErrorLog "%[1]s/error.log"
LogLevel warn auth_openidc:info
Listen %[3]s
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MinSpareThreads 1
MaxSpareThreads 16
MaxRequestWorkers 16
LoadModule mpm_event_module "%[2]s/mod_mpm_event.so"
LoadModule authn_core_module "%[2]s/mod_authn_core.so"
LoadModule authz_core_module "%[2]s/mod_authz_core.so"
LoadModule authz_user_module "%[2]s/mod_authz_user.so"
LoadModule headers_module "%[2]s/mod_headers.so"
LoadModule proxy_module "%[2]s/mod_proxy.so"
LoadModule proxy_http_module "%[2]s/mod_proxy_http.so"
LoadModule auth_openidc_module "%[2]s/mod_auth_openidc.so"

%[5]s
OIDCRedirectURI http://%[3]s/private/callback
OIDCCryptoPassphrase only-for-this-test
OIDCPKCEMethod S256
OIDCScope "openid email profile offline_access"
OIDCRemoteUserClaim sub
OIDCPassRefreshToken On
OIDCInfoHook session access_token refresh_token userinfo

<Location /private>
	AuthType openid-connect
	Require valid-user
	RequestHeader set X-Remote-User "expr=%%{REMOTE_USER}"
</Location>
<Location /board>
	AuthType openid-connect
	Require claim email:head@example.test
</Location>
ProxyPass /private/callback !
ProxyPass / %[4]s/
`

// withSecret is Apache as a client with a secret; it is an API's guard, too, that asks about tokens.
const withSecret = `
OIDCProviderMetadataURL %[3]s/.well-known/openid-configuration
OIDCClientID %[1]s
OIDCClientSecret %[2]s
OIDCOAuthServerMetadataURL %[3]s/.well-known/oauth-authorization-server
OIDCOAuthClientID %[1]s
OIDCOAuthClientSecret %[2]s
OIDCOAuthIntrospectionEndpointAuth client_secret_basic
OIDCOAuthRemoteUserClaim sub
<Location /api>
	AuthType oauth20
	Require valid-user
	RequestHeader set X-Remote-User "expr=%%{REMOTE_USER}"
</Location>
`

// withKeys is Apache as a client with keys, in the files %[3]s and %[4]s, and with requests that it signs.
const withKeys = `
OIDCProviderMetadataURL %[2]s/.well-known/openid-configuration
OIDCClientID %[1]s
OIDCPrivateKeyFiles apache#%[4]s
OIDCPublicKeyFiles apache#%[3]s
OIDCProviderTokenEndpointAuth private_key_jwt
OIDCIDTokenSignedResponseAlg RS256
OIDCIDTokenEncryptedResponseAlg RSA-OAEP
OIDCIDTokenEncryptedResponseEnc A256GCM
OIDCUserInfoSignedResponseAlg RS256
OIDCUserInfoEncryptedResponseAlg RSA-OAEP
OIDCUserInfoEncryptedResponseEnc A256CBC-HS512
OIDCResponseMode form_post
OIDCRequestObject "{ \"copy_from_request\": [\"response_type\", \"response_mode\", \"nonce\", \"state\", \"redirect_uri\", \"scope\", \"client_id\", \"code_challenge\", \"code_challenge_method\"], \"crypto\": {\"sign_alg\": \"RS256\"}, \"request_object_type\": \"request\" }"
`

// byItself is Apache as a client that nobody has registered: it keeps what it learns of providers in the directory %[1]s.
const byItself = `
OIDCMetadataDir %[1]s
OIDCClientName "Site behind Apache"
`

// Ways in which Apache becomes a client.
const (
	bySecret       = "secret"
	byKeys         = "keys" // it proves itself by a key that it publishes, and gets its messages encrypted
	byRegistration = "registration"
)

// serveApache runs an Apache of its own until the end of the test, as whoever runs the test.
func serveApache(t *testing.T, s *rig.Server, way string) *apache {
	t.Helper()
	program, err := exec.LookPath("apache2")
	if err != nil {
		program = "/usr/sbin/apache2" // where it is for those whose PATH is short
	}
	modules := "/usr/lib/apache2/modules"
	for _, needed := range []string{program, modules + "/mod_auth_openidc.so"} {
		if _, err := os.Stat(needed); err != nil {
			t.Fatalf("%v: run the tests with `make test`, which installs Apache and its module for OpenID Connect", err)
		}
	}
	site := httptest.NewServer(http.HandlerFunc(tellHeaders))
	t.Cleanup(site.Close)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	dir := t.TempDir()
	client := apacheClient(t, s, way, dir, address)
	config := fmt.Sprintf(apacheConfig, dir, modules, address, site.URL, client)
	if os.Getuid() == 0 { // then it refuses to serve as what it was started
		config += "User www-data\nGroup www-data\n"
	}
	file := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &apache{URL: "http://" + address, log: filepath.Join(dir, "error.log")}
	cmd := exec.CommandContext(t.Context(), program, "-f", file, "-DFOREGROUND")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended // the context has ended
		if t.Failed() {
			t.Logf("Apache's log:\n%s", a.said())
		}
	})
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(a.URL + "/open"); err == nil {
			_ = resp.Body.Close()
			return a
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(output.Name())
			t.Fatalf("Apache ended: %s\n%s", cmd.ProcessState, text)
		default:
		}
	}
	t.Fatal("Apache does not answer")
	return nil
}

// apacheClient registers Apache in one of the ways, and returns what is to stand in its configuration.
func apacheClient(t *testing.T, s *rig.Server, way, dir, address string) string {
	t.Helper()
	if way == byRegistration {
		kept := filepath.Join(dir, "metadata")
		if err := os.Mkdir(kept, 0o777); err != nil {
			t.Fatal(err)
		}
		for path := kept; path != filepath.Dir(os.TempDir()) && path != os.TempDir(); path = filepath.Dir(path) { // Apache works as somebody else than root
			if err := os.Chmod(path, 0o777); err != nil { //nolint:gosec // of a test
				t.Fatal(err)
			}
		}
		// It knows the provider by a copy of its metadata, under the issuer's name.
		resp, err := http.Get(s.Issuer + "/.well-known/openid-configuration")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		metadata, err := io.ReadAll(resp.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(kept, url.QueryEscape(strings.TrimPrefix(s.Issuer, "http://"))+".provider"), metadata, 0o644) //nolint:gosec // for Apache
		}
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(byItself, kept)
	}
	options := []string{
		"--first-party", "--post-logout-redirect-uri", "http://" + address + "/bye", "--backchannel-logout-uri", "http://" + address + "/private/callback?logout=backchannel",
	}
	if way == byKeys {
		options = append(options, "--auth-method", "private_key_jwt", "--jwks-uri", "http://"+address+"/private/callback?jwks=rsa", "--require-signed-request",
			"--encrypt-id-token", "RSA-OAEP/A256GCM", "--userinfo-alg", "RS256", "--encrypt-userinfo", "RSA-OAEP/A256CBC-HS512")
	}
	client, err := s.NewClient(t.Context(), "Apache", "http://"+address+"/private/callback", options...)
	if err != nil {
		t.Fatal(err)
	}
	if way == byKeys {
		public, private := rsaFiles(t, dir)
		return fmt.Sprintf(withKeys, client.ID, s.Issuer, public, private)
	}
	return fmt.Sprintf(withSecret, client.ID, client.Secret, s.Issuer)
}

// rsaFiles writes a key for Apache, which wants RSA.
func rsaFiles(t *testing.T, dir string) (public, private string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, private = filepath.Join(dir, "public.pem"), filepath.Join(dir, "private.pem")
	for file, block := range map[string]*pem.Block{
		public: {Type: "PUBLIC KEY", Bytes: text}, private: {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return public, private
}

func (a *apache) said() string {
	b, _ := os.ReadFile(a.log)
	return string(b)
}

// tellHeaders is the site: it shows what it was told about the visitor.
func tellHeaders(w http.ResponseWriter, r *http.Request) {
	told := map[string]string{"path": r.URL.Path, "user": r.Header.Get("X-Remote-User")}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Oidc_") {
			told[strings.ToLower(name)] = values[0]
		}
	}
	text, err := json.Marshal(told)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintf(w, `<!doctype html><title>Site</title><link rel="icon" href="data:,"><p id="told">%s</p>`, html.EscapeString(string(text)))
}

// told reads what the site was told in the window.
func told(w *window) (headers map[string]string) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.see("told")), &headers); err != nil {
		w.t.Fatal(err)
	}
	return headers
}

// session reads what the module keeps about the person in the window.
func (a *apache) session(w *window) (kept struct {
	AccessToken  string         `json:"access_token"`
	RefreshToken string         `json:"refresh_token"`
	Userinfo     map[string]any `json:"userinfo"`
},
) {
	w.t.Helper()
	w.open(a.URL + "/private/callback?info=json")
	text := ask(w, "info", chromedp.Text(chromedp.CSS("body")))
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		w.t.Fatalf("%v in %s", err, text)
	}
	return kept
}

// bearer visits the site's API with an access token and returns whom Apache takes the caller for.
func (a *apache) bearer(t *testing.T, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/api/notes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := make([]byte, 1<<16)
	n, _ := resp.Body.Read(text)
	return resp.StatusCode, html.UnescapeString(string(text[:n]))
}

// A site behind a real Apache, whose module for OpenID Connect signs people in here, keeps their session, refreshes their tokens, signs them
// out, hears when they signed out elsewhere, and asks whether a token that an API was sent is good.
func TestApache(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := setup(t)
			set.Env = append(slices.Clone(set.Env), "GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8")
			s := start(t, set)
			email := "ada@example.test"
			userID := newUser(t, s, email)
			a := serveApache(t, s, bySecret)
			w := newWindow(t)

			enter := func() {
				t.Helper()
				w.open(a.URL + "/private/page?x=1")
				w.fill("email", email)
				w.fill("password", password)
				w.click("login-submit")
			}
			enter()
			got := told(w)
			if got["path"] != "/private/page" || got["user"] != userID || got["oidc_claim_email"] != email || got["oidc_claim_email_verified"] != "1" || got["oidc_claim_iss"] != s.Issuer {
				t.Errorf("the site was told %v, want %s, %s", got, userID, email)
			}
			if at := w.location().String(); at != a.URL+"/private/page?x=1" {
				t.Errorf("the browser is at %s, want the page that was asked for", at)
			}
			w.open(a.URL + "/private/other")
			if told(w)["user"] != userID {
				t.Error("the module's session does not last")
			}

			before := a.session(w)
			if before.Userinfo["sub"] != userID || before.RefreshToken == "" {
				t.Errorf("the session holds %v", before)
			}
			w.open(a.URL + "/private/callback?" + url.Values{"refresh": {a.URL + "/private/back"}, "access_token": {before.AccessToken}}.Encode())
			if got := told(w); got["path"] != "/private/back" || got["user"] != userID {
				t.Errorf("after a refresh the site was told %v", got)
			}
			after := a.session(w)
			if after.AccessToken == before.AccessToken || after.RefreshToken == before.RefreshToken {
				t.Error("refreshing brought no new tokens")
			}

			if status, body := a.bearer(t, after.AccessToken); status != http.StatusOK || !strings.Contains(body, `"user":"`+userID+`"`) {
				t.Errorf("an API with a good token: %d %s", status, body)
			}
			if status, _ := a.bearer(t, "x"+after.AccessToken); status != http.StatusUnauthorized {
				t.Errorf("an API with a token that is none: %d, want 401", status)
			}
			if status := w.open(a.URL + "/board"); status != http.StatusUnauthorized && status != http.StatusForbidden {
				t.Errorf("a page for somebody else: %d, want 401 or 403", status)
			}
			w.forgive("/board")

			// Signing out at the site leads through the server and back, without a question.
			w.open(a.URL + "/private/callback?" + url.Values{"logout": {a.URL + "/bye"}}.Encode())
			if got := told(w); got["path"] != "/bye" {
				t.Errorf("after signing out the browser is at %s", w.location())
			}
			w.open(a.URL + "/private/page")
			w.see("login-submit")

			// Signing out at the server reaches the site behind the scenes.
			enter()
			told(w)
			w.open(s.Issuer + "/logout")
			w.click("logout-confirm")
			w.see("logout-done")
			for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				if w.open(a.URL + "/private/page"); w.has("login-submit") {
					break
				}
				if time.Since(begun) > patience {
					t.Fatal("the site was not told that the person signed out")
				}
			}
		})
	}
}

// The same module with a key that it publishes itself: it signs its requests and proves by it who it is, and gets ID tokens and
// userinfo signed and encrypted. The answer comes as a form.
func TestApacheByKeys(t *testing.T) {
	t.Parallel()
	set := full(t)
	set.Env = append(slices.Clone(set.Env), "GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8")
	s := start(t, set)
	email := "ada@example.test"
	userID := newUser(t, s, email)
	a := serveApache(t, s, byKeys)
	w := newWindow(t)
	w.open(a.URL + "/private/page")
	w.fill("email", email)
	w.fill("password", password)
	w.click("login-submit")
	if got := told(w); got["path"] != "/private/page" || got["user"] != userID || got["oidc_claim_email"] != email {
		t.Errorf("the site was told %v, want %s, %s", got, userID, email)
	}
	before := a.session(w)
	w.open(a.URL + "/private/callback?" + url.Values{"refresh": {a.URL + "/private/back"}, "access_token": {before.AccessToken}}.Encode())
	if after := a.session(w); after.AccessToken == before.AccessToken || after.AccessToken == "" {
		t.Error("refreshing brought no new token")
	}
	w.open(a.URL + "/private/callback?" + url.Values{"logout": {a.URL + "/bye"}}.Encode())
	w.click("logout-confirm") // the hint it sends is encrypted to itself: the server asks the person, and cannot know who wants them back
	w.see("logout-done")
	w.open(a.URL + "/private/page")
	w.see("login-submit")
}

// The same module, which knows the server's metadata and has no client there, registers itself (RFC 7591), and the person is asked about a stranger.
func TestApacheThatRegistersItself(t *testing.T) {
	t.Parallel()
	s := start(t, full(t))
	email := "ada@example.test"
	userID := newUser(t, s, email)
	a := serveApache(t, s, byRegistration)
	w := newWindow(t)
	w.open(a.URL + "/private/callback?" + url.Values{"iss": {s.Issuer}, "target_link_uri": {a.URL + "/private/page"}}.Encode())
	w.fill("email", email)
	w.fill("password", password)
	w.click("login-submit")
	if said := w.see("consent-stranger"); said == "" {
		t.Error("the page does not say that nobody has looked at the app")
	}
	w.click("consent-allow")
	if got := told(w); got["path"] != "/private/page" || got["user"] != userID || got["oidc_claim_email"] != email {
		t.Errorf("the site was told %v, want %s, %s", got, userID, email)
	}
}
