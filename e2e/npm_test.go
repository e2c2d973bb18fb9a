package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// The clients of the npm world, each with every way of authentication they and the server have in common.
func TestCodeFlowByNPMClients(t *testing.T) {
	if _, err := os.Stat(filepath.Join("openid-client", "node_modules")); err != nil {
		t.Fatal("the npm clients are not installed: run the tests with `make test`, or scripts/npm.sh once")
	}
	each(t, func(t *testing.T, s *rig.Server) {
		email := "ada@example.test"
		userID := newUser(t, s, email)
		public, private := keyPair(t)
		for _, script := range []string{"openid-client.mjs", "oauth4webapi.mjs"} {
			for _, way := range []string{
				"client_secret_basic", "client_secret_post", "none", "private_key_jwt", "client_secret_jwt",
				"client_secret_basic dpop", "none dpop", "private_key_jwt dpop",
			} {
				t.Run(script+" "+way, func(t *testing.T) {
					auth, dpop, _ := strings.Cut(way, " ")
					args := []string{"--auth-method", auth, "--grant-type", "authorization_code", "--grant-type", "refresh_token", "--post-logout-redirect-uri", afterLogout}
					if auth == "private_key_jwt" {
						args = append(args, "--jwks", public)
					}
					if dpop != "" {
						args = append(args, "--dpop", "--require-par")
					}
					if auth != "none" {
						args = append(args, "--grant-type", "client_credentials")
					}
					client, err := s.NewClient(t.Context(), "npm", redirectURI, args...)
					if err != nil {
						t.Fatal(err)
					}
					got := converse(t, s, script, email, append(
						os.Environ(), "ISSUER="+s.Issuer, "CLIENT_ID="+client.ID, "CLIENT_SECRET="+client.Secret,
						"REDIRECT_URI="+redirectURI, "POST_LOGOUT_REDIRECT_URI="+afterLogout, "AUTH_METHOD="+auth, "PRIVATE_KEY="+private, "DPOP="+dpop,
					))
					if got.Sub != userID || got.Email != email || !got.EmailVerified {
						t.Errorf("got the person %q %q %t, want %q %q true", got.Sub, got.Email, got.EmailVerified, userID, email)
					}
					if auth == "none" {
						return
					}
					if !got.ActiveBefore || got.ActiveAfter {
						t.Errorf("active: got %t before revocation, %t after, want true, false", got.ActiveBefore, got.ActiveAfter)
					}
					if want := cmp.Or(dpop, "bearer"); !strings.EqualFold(got.ClientCredentials, want) {
						t.Errorf("client credentials: token_type %q", got.ClientCredentials)
					}
				})
			}
		}
	})
}

// keyPair makes a key for a client: a file with the public half, and the private one, both as the JSON Web Keys that apps keep.
func keyPair(t *testing.T) (public, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	own, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	public = filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(public, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return public, string(own)
}

type npmResult struct {
	Sub               string `json:"sub"`
	Email             string `json:"email"`
	EmailVerified     bool   `json:"emailVerified"`
	ActiveBefore      bool   `json:"activeBefore"`
	ActiveAfter       bool   `json:"activeAfter"`
	ClientCredentials string `json:"clientCredentials"`
}

// converse runs a script of the OpenID Connect clients.
func converse(t *testing.T, s *rig.Server, script, email string, env []string) (result npmResult) {
	t.Helper()
	dialogue(t, s, "openid-client", script, email, env, &result)
	return result
}

// dialogue runs a script and plays the person for it, each time in another browser; see openid-client/dialogue.mjs.
func dialogue(t *testing.T, s *rig.Server, dir, script, email string, env []string, result any) {
	t.Helper()
	play(t, dir, script, env, result, func(said said) (string, error) {
		page, err := rig.NewBrowser(s.Issuer).SignIn(said.Visit, email, password)
		if err != nil {
			return "", err
		}
		return page.URL.String(), nil
	})
}

// said is what a script says: an address to send the person to, or its result.
type said struct {
	Visit  string          `json:"visit"`
	Deny   bool            `json:"deny"` // the person says no
	Page   bool            `json:"page"` // the page that the person sees is looked at, wherever it is
	Result json.RawMessage `json:"result"`
}

// play runs a script and answers what it says until it has a result.
func play(t *testing.T, dir, script string, env []string, result any, answer func(said) (string, error)) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", script)
	cmd.Dir, cmd.Env = dir, env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer in.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var said said
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			t.Fatalf("%s said %q: %v", script, lines.Text(), err)
		}
		if said.Result != nil {
			if err := json.Unmarshal(said.Result, result); err != nil {
				t.Fatalf("%s: result: %v", script, err)
			}
			return
		}
		reply, err := answer(said)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, reply); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait()
	t.Fatalf("%s ended without a result:\n%s", script, &stderr)
}
