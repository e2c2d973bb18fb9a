// Command mcp is an MCP server with one tool, which only people signed in at Gatehouse may use. It shows all that such a server needs:
// the metadata that lead clients to Gatehouse (RFC 9728), and a check of each access token.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// scope is what a client needs for the tool. Gatehouse shows people what it means.
const scope = "notes:read"

func main() {
	issuer := flag.String("issuer", "http://localhost:8080", "issuer of Gatehouse")
	resource := flag.String("resource", "http://127.0.0.1:8090/mcp", "public URL of this server, as registered by `gatehouse api create`")
	listen := flag.String("listen", "127.0.0.1:8090", "address to listen on")
	flag.Parse()
	if err := run(*issuer, *resource, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(issuer, resource, listen string) error {
	handler, err := newHandler(context.Background(), issuer, resource)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	log.Printf("MCP server at %s, for people of %s", resource, issuer)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

// newHandler protects the tools of the server.
func newHandler(ctx context.Context, issuer, resource string) (http.Handler, error) {
	at, err := url.Parse(resource)
	if err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	verify, err := newVerifier(ctx, issuer, resource)
	if err != nil {
		return nil, err
	}
	metadataPath := "/.well-known/oauth-protected-resource" + strings.TrimSuffix(at.Path, "/")
	tools := newTools()
	protect := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: at.Scheme + "://" + at.Host + metadataPath, Scopes: []string{scope},
	})
	mux := http.NewServeMux()
	mux.Handle(metadataPath, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: resource, AuthorizationServers: []string{issuer}, ScopesSupported: []string{scope}, BearerMethodsSupported: []string{"header"},
	}))
	mux.Handle(at.Path, protect(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools }, nil)))
	return mux, nil
}

// newVerifier lets in access tokens that Gatehouse has made for this very server: another server's token, sent here by whoever was
// given it, has another audience.
func newVerifier(ctx context.Context, issuer, resource string) (auth.TokenVerifier, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	verifier := provider.VerifierContext(ctx, &oidc.Config{ClientID: resource, SupportedSigningAlgs: []string{oidc.ES256}})
	return func(ctx context.Context, raw string, _ *http.Request) (*auth.TokenInfo, error) {
		token, err := verifier.Verify(ctx, raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
		}
		var claims struct {
			Scope    string `json:"scope"`
			ClientID string `json:"client_id"`
		}
		if err := token.Claims(&claims); err != nil || claims.ClientID == "" { // an access token has one (RFC 9068)
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{
			UserID: token.Subject, Scopes: strings.Fields(claims.Scope), Expiration: token.Expiry, Extra: map[string]any{"client_id": claims.ClientID},
		}, nil
	}, nil
}

type notesInput struct {
	Word string `json:"word" jsonschema:"what to look for"`
}

type notesOutput struct {
	Person string   `json:"person" jsonschema:"whose notes these are"`
	Notes  []string `json:"notes"`
}

func newTools() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "find_notes", Description: "Finds the notes of the person who is signed in."},
		func(_ context.Context, req *mcp.CallToolRequest, in notesInput) (*mcp.CallToolResult, notesOutput, error) {
			person := req.Extra.TokenInfo.UserID // never from what the model says
			return nil, notesOutput{Person: person, Notes: []string{"A note about " + in.Word + "."}}, nil
		})
	return server
}
