package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// stories are the families of the protocol, as openid-client and oauth4webapi go through them: the script of the same name in
// openid-client, and the apps it is about, with the options that they are registered with.
var stories = map[string]map[string][]string{
	"authentication": {
		"signs ES256": keyed(service("--auth-method", "private_key_jwt", "--auth-alg", "ES256")),
		"signs PS256": keyed(service("--auth-method", "private_key_jwt", "--auth-alg", "PS256")),
		"signs RS256": keyed(service("--auth-method", "private_key_jwt", "--auth-alg", "RS256")),
		"signs EdDSA": keyed(service("--auth-method", "private_key_jwt", "--auth-alg", "EdDSA")),
		"hmac":        service("--auth-method", "client_secret_jwt"),
	},
	"requests": {
		"web":           keyed(web()),
		"answers RS256": web("--answer-alg", "RS256"),
		"answers ES256": web("--answer-alg", "ES256"),
		"answers EdDSA": web("--answer-alg", "EdDSA"),
	},
	"resources": {
		"shop":   web("--audience", "https://orders.example.test", "--audience", "https://mail.example.test", "--scope", "openid,offline_access,orders.read,mail.send"),
		"orders": {"--id", "orders", "--grant-type", "urn:ietf:params:oauth:grant-type:token-exchange", "--audience", "https://mail.example.test", "--scope", "mail.send"},
	},
	"device": {
		"television": {"--auth-method", "none", "--scope", "openid,email,offline_access", "--grant-type", "urn:ietf:params:oauth:grant-type:device_code", "--grant-type", "refresh_token"},
	},
	"backchannel": {
		"till": {"--scope", "openid,email,offline_access", "--grant-type", "urn:openid:params:grant-type:ciba", "--grant-type", "refresh_token"},
		"bank": keyed([]string{
			"--scope", "openid,email,offline_access", "--grant-type", "urn:openid:params:grant-type:ciba", "--grant-type", "refresh_token",
			"--profile", "fapi2-message-signing", "--auth-alg", "ES256", "--ciba-request-alg", "ES256",
		}),
		"speaker": keyed([]string{
			"--grant-type", "urn:openid:params:grant-type:ciba", "--ciba-mode", "ping", "--ciba-notification-endpoint", "PING", "--ciba-request-alg", "EdDSA",
		}),
	},
	"encryption": {
		"ECDH-ES/A256GCM":              encrypted("ECDH-ES/A256GCM"),
		"ECDH-ES+A256KW/A128CBC-HS256": encrypted("ECDH-ES+A256KW/A128CBC-HS256"),
		"RSA-OAEP-256/A256CBC-HS512":   encrypted("RSA-OAEP-256/A256CBC-HS512"),
	},
	"legacy": {
		"hybrid":   web("--profile", "oidc-basic", "--response-type", "code id_token"),
		"implicit": web("--profile", "oidc-basic", "--response-type", "id_token"),
		"none":     web("--response-type", "code", "--response-type", "none"),
	},
	"registration": {},
	"bearer": {
		"deploy": {"--id", "deploy", "--auth-method", "none", "--grant-type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "--scope", "deploy:write"},
		"helper": {"--id", "helper", "--first-party", "--grant-type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "--scope", "notes:read"},
	},
	"fapi": {
		"fapi PS256":    keyed(web("--profile", "fapi2-security", "--auth-alg", "PS256")),
		"fapi ES256":    keyed(web("--profile", "fapi2-security", "--auth-alg", "ES256")),
		"fapi EdDSA":    keyed(web("--profile", "fapi2-security", "--auth-alg", "EdDSA")),
		"signing PS256": keyed(web("--profile", "fapi2-message-signing", "--auth-alg", "PS256")),
		"signing ES256": keyed(web("--profile", "fapi2-message-signing", "--auth-alg", "ES256", "--answer-alg", "ES256")),
	},
}

// web are the options of an app that people come back to.
func web(options ...string) []string {
	return append([]string{"--redirect-uri", redirectURI}, options...)
}

// service are the options of one that also acts for itself.
func service(options ...string) []string {
	return append(web("--grant-type", "authorization_code", "--grant-type", "refresh_token", "--grant-type", "client_credentials"), options...)
}

// encrypted are the options of one that gets its messages encrypted.
func encrypted(how string) []string {
	options := web("--userinfo-alg", "ES256", "--post-logout-redirect-uri", afterLogout)
	for _, message := range []string{"id-token", "userinfo", "answer", "introspection"} {
		options = append(options, "--encrypt-"+message, how)
	}
	return keyed(options)
}

// keyed adds the public keys of the stories.
func keyed(options []string) []string { return append(options, "--jwks", "KEYS") }

// TestStories sends a person through each story, on both pairs of stores, and looks who they were for the apps.
func TestStories(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := setup(t)
			set.Env = append(slices.Clone(set.Env), "GATEHOUSE_LEGACY_RESPONSE_TYPES=true", "GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8")
			tellAll(t, start(t, set))
		})
	}
}

func tellAll(t *testing.T, s *rig.Server) {
	t.Helper()
	email := "ada@example.test"
	userID := newUser(t, s, email)
	public := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(public, storyKeys().public, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, apps := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append(os.Environ(), "ISSUER="+s.Issuer, "REDIRECT_URI="+redirectURI, "POST_LOGOUT_REDIRECT_URI="+afterLogout, "KEYS="+storyKeys().private, "PERSON="+userID, "EMAIL="+email)
			ping := fmt.Sprintf("http://127.0.0.1:%d/ping", freePort(t))
			env = append(env, "PING="+ping, "APPS="+registerAll(t, s, public, ping, apps))
			switch name {
			case "resources":
				env = append(env, "RESOURCE_METADATA="+makeAPIs(t, s))
			case "bearer":
				trustIssuers(t, s, public)
			}
			got := tell(t, s, name+".mjs", email, env)
			if len(got) == 0 {
				t.Error("the story is about nobody")
			}
			for way, sub := range got {
				if sub != userID {
					t.Errorf("%s: got the person %q, want %q", way, sub, userID)
				}
			}
		})
	}
}

// tell runs a story and plays its person, in one browser from beginning to end. It returns who the person was for the apps.
func tell(t *testing.T, s *rig.Server, script, email string, env []string) map[string]string {
	t.Helper()
	if _, err := os.Stat(filepath.Join("openid-client", "node_modules")); err != nil {
		t.Fatal("the npm clients are not installed: run the tests with `make test`, or scripts/npm.sh once")
	}
	var result struct {
		People map[string]string `json:"people"`
	}
	b := s.NewBrowser()
	play(t, "openid-client", script, env, &result, func(said said) (string, error) {
		if said.Page {
			page, err := b.Open(said.Visit)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s %d", page.URL, page.Status), nil
		}
		b.Denies = said.Deny
		if strings.HasSuffix(said.Visit, "/account/requests") {
			page, err := decide(b, said.Visit, email)
			if err != nil {
				return "", err
			}
			return page.URL.String(), nil
		}
		page, err := b.SignIn(said.Visit, email, password)
		if err != nil {
			return "", err
		}
		return page.URL.String(), nil
	})
	return result.People
}

// decide answers the first request that waits on the account page.
func decide(b *rig.Browser, requests, email string) (*rig.Page, error) {
	page, err := b.Open(requests)
	if err == nil && page.ByID("login-submit") != nil {
		if _, err = b.Submit(page, "login-submit", map[string]string{"email": email, "password": password}); err == nil {
			page, err = b.Open(requests)
		}
	}
	if err != nil {
		return nil, err
	}
	if b.Denies {
		page, err = b.Submit(page, page.FirstID("request-deny-"), nil)
	} else if page, err = b.Submit(page, page.FirstID("request-open-"), nil); err == nil {
		page, err = b.Submit(page, "consent-allow", nil)
	}
	if err == nil && page.ByID("done") == nil {
		err = fmt.Errorf("the decision led to %s", page)
	}
	return page, err
}

// registerAll registers the apps of a story and returns what the script must know of them.
func registerAll(t *testing.T, s *rig.Server, public, ping string, apps map[string][]string) string {
	t.Helper()
	type known struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
	made := map[string]known{}
	for name, options := range apps {
		options = append([]string{}, options...)
		for i := range options {
			switch options[i] {
			case "KEYS":
				options[i] = public
			case "PING":
				options[i] = ping
			}
		}
		client, err := s.NewClient(t.Context(), name, "", options...)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = known{client.ID, client.Secret}
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makeAPIs registers the APIs that tokens are for, and returns where the first one's metadata is.
func makeAPIs(t *testing.T, s *rig.Server) string {
	t.Helper()
	var orders, mail struct{ ID string }
	for out, args := range map[any][]string{
		&orders: {"--identifier", "https://orders.example.test", "--name", "Orders", "--scope", "orders.read=See your orders", "--scope", "mail.send=Send mails", "--client", "orders"},
		&mail:   {"--identifier", "https://mail.example.test", "--name", "Mail", "--scope", "mail.send=Send mails"},
	} {
		if err := s.Command(t.Context(), out, append([]string{"api", "create"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	return s.Issuer + "/resource-metadata/" + orders.ID
}

// trustIssuers lets two issuers, whose keys are those of the stories, speak of a machine and of people.
func trustIssuers(t *testing.T, s *rig.Server, public string) {
	t.Helper()
	for _, args := range [][]string{
		{"create", "https://ci.example.test", "--alg", "PS256", "--jwks", public},
		{"permit", "https://ci.example.test", "deploy", "--claim", "sub=repo:acme/shop:environment:live"},
		{"create", "https://house.example.test", "--jwks", public, "--subject", "person"},
		{"permit", "https://house.example.test", "helper"},
	} {
		if err := s.Command(t.Context(), nil, append([]string{"issuer"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// keysOfStories are the keys of the apps, as sets of JSON Web Keys.
type keysOfStories struct {
	public  []byte
	private string // by algorithm
}

// storyKeys are made once: RSA keys take long.
var storyKeys = sync.OnceValue(func() keysOfStories {
	var set jose.JSONWebKeySet
	private := map[string]jose.JSONWebKey{}
	add := func(use string, key crypto.Signer, err error, algs ...string) {
		if err != nil {
			panic(err)
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), Use: use})
		for _, alg := range algs {
			private[alg] = jose.JSONWebKey{Key: key}
		}
	}
	for use, algs := range map[string][2][]string{"sig": {{"ES256"}, {"RS256", "PS256"}}, "enc": {{"ECDH-ES"}, {"RSA-OAEP-256"}}} {
		ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		add(use, ec, err, algs[0]...)
		big, err := rsa.GenerateKey(rand.Reader, 2048)
		add(use, big, err, algs[1]...)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	add("sig", ed, err, "EdDSA")
	public, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	own, err := json.Marshal(private)
	if err != nil {
		panic(err)
	}
	return keysOfStories{public, string(own)}
})
