package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

type mcpResult struct {
	ClientID    string   `json:"clientID"`
	Resource    string   `json:"resource"`
	Scope       string   `json:"scope"`
	Person      string   `json:"person"`
	Notes       []string `json:"notes"`
	Refreshable bool     `json:"refreshable"`
}

// The official MCP client knows the address of the example's MCP server and nothing else. It introduces itself by its own document,
// and, where it has none, by registering.
func TestMCPClient(t *testing.T) {
	if _, err := os.Stat(filepath.Join("mcp-client", "node_modules")); err != nil {
		t.Fatal("the MCP client is not installed: run the tests with `make test`, or scripts/npm.sh once")
	}
	t.Parallel()
	example := buildExample(t)
	for name, setup := range map[string]func(t *testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			documentURL, roots := publishDocument(t)
			st := setup(t)
			st.Env = append(slices.Clone(st.Env), "GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8", "SSL_CERT_FILE="+roots)
			s := start(t, st)
			email := "ada@example.test"
			person := newUser(t, s, email)
			resource := fmt.Sprintf("http://127.0.0.1:%d/mcp", freePort(t))
			var api any
			if err := s.Command(t.Context(), &api, "api", "create", "--identifier", resource, "--name", "Notes", "--scope", "notes:read=Read your notes", "--open"); err != nil {
				t.Fatal(err)
			}
			serveExample(t, example, s.Issuer, resource)
			for way, tc := range map[string]struct{ document, redirect string }{
				"document":     {documentURL, "http://localhost:7777/callback"}, // in the document without a port
				"registration": {"", "http://127.0.0.1:7777/callback"},
			} {
				t.Run(way, func(t *testing.T) {
					var got mcpResult
					dialogue(t, s, "mcp-client", "client.mjs", email, append(os.Environ(), "MCP_SERVER="+resource, "DOCUMENT_URL="+tc.document, "MCP_REDIRECT_URI="+tc.redirect), &got)
					if got.Person != person || len(got.Notes) != 1 || got.Resource != resource {
						t.Errorf("got %+v, want the notes of %s at %s", got, person, resource)
					}
					if tc.document != "" && got.ClientID != tc.document {
						t.Errorf("the client is %q, want its document %q", got.ClientID, tc.document)
					}
				})
			}
		})
	}
}

// publishDocument serves the metadata of a client over https, and names a file with the authority that vouches for the server.
func publishDocument(t *testing.T) (address, roots string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"client_id": "https://" + r.Host + r.URL.Path, "client_name": "Test agent", "redirect_uris": []string{"http://localhost/callback", "http://127.0.0.1/callback"},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none",
		})
	}))
	t.Cleanup(server.Close)
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL + "/oauth/client.json", roots
}

func buildExample(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "examples", "mcp")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	return path
}

func serveExample(t *testing.T, path, issuer, resource string) {
	t.Helper()
	at, err := url.Parse(resource)
	if err != nil {
		t.Fatal(err)
	}
	address := at.Host
	cmd := exec.CommandContext(t.Context(), path, "-issuer", issuer, "-resource", resource, "-listen", address)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the context has ended
	for range 200 {
		resp, err := http.Get("http://" + address + "/.well-known/oauth-protected-resource/mcp")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal("the example's metadata: status " + strconv.Itoa(resp.StatusCode))
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the example does not answer")
}
