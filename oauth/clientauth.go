package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// presented is how a request says which client it comes from, and what it offers as proof.
type presented struct {
	method    string // AuthBasic, AuthPost, methodAssertion, or AuthNone: by TLS certificate, or without proof
	id        string
	secret    string
	assertion *assertion
}

// methodAssertion stands for private_key_jwt and client_secret_jwt, which look alike.
const methodAssertion = "client_assertion"

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// fits reports whether what was presented may be the registered method.
func (p presented) fits(registered string) bool {
	switch registered {
	case AuthPrivateKeyJWT, AuthSecretJWT:
		return p.method == methodAssertion
	case AuthTLS, AuthSelfSignedTLS:
		return p.method == AuthNone
	}
	return p.method == registered
}

// authenticateClient is fosite's ClientAuthenticationStrategy and our own for every other endpoint. A request names one
// client and proves it by exactly one method, the registered one (RFC 6749 §2.3: "MUST NOT use more than one").
func (s *Server) authenticateClient(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
	if c := requestState(ctx).client; c != nil { // the endpoint has done it
		return c, nil
	}
	p, err := presentedCredentials(r, form)
	if err != nil {
		return nil, err
	}
	client, err := s.client(ctx, p.id)
	if errors.Is(err, db.ErrNotFound) {
		(&registration{secrets: []storedSecret{make([]byte, 32)}}).authenticate(p.secret) // the same work as for a known client
		return nil, fosite.ErrInvalidClient.WithHint("The client is unknown.")
	}
	if err != nil {
		return nil, err
	}
	if !p.fits(client.AuthMethod) {
		return nil, fosite.ErrInvalidClient.WithHintf("The client is registered for the authentication method %s.", client.AuthMethod)
	}
	switch client.AuthMethod {
	case AuthNone:
	case AuthBasic, AuthPost:
		if !client.authenticate(p.secret) {
			return nil, fosite.ErrInvalidClient.WithHint("The client secret is wrong.")
		}
	case AuthPrivateKeyJWT, AuthSecretJWT:
		if client.stranger() { // each assertion is remembered, and anybody can make such a client (storage exhaustion)
			if err := s.spendInteraction(ctx); err != nil {
				return nil, err
			}
		}
		err = s.checkAssertion(ctx, client, p.assertion)
	case AuthTLS, AuthSelfSignedTLS:
		err = s.checkCertificate(ctx, r, client)
	default:
		err = fosite.ErrInvalidClient.WithHint("The client's authentication method is not supported.")
	}
	if err != nil {
		return nil, err
	}
	if client.Disabled {
		return nil, fosite.ErrInvalidClient.WithHint("The client is disabled.")
	}
	requestState(ctx).client = client
	return client, nil
}

var errTwoMethods = fosite.ErrInvalidRequest.WithHint("Use exactly one client authentication method.")

func presentedCredentials(r *http.Request, form url.Values) (presented, error) {
	basicID, basicSecret, basic := r.BasicAuth()
	asserted := form.Has("client_assertion") || form.Has("client_assertion_type")
	switch {
	case asserted && (r.Header.Get("Authorization") != "" || form.Has("client_secret")):
		return presented{}, errTwoMethods
	case asserted:
		return presentedAssertion(form)
	case r.Header.Get("Authorization") != "" && !basic:
		return presented{}, fosite.ErrInvalidClient.WithHint("The Authorization header is not valid HTTP Basic authentication.")
	case len(r.Header.Values("Authorization")) > 1, basic && form.Has("client_secret"):
		return presented{}, errTwoMethods
	case basic:
		id, secret := decodeBasic(basicID), decodeBasic(basicSecret)
		if form.Has("client_id") && form.Get("client_id") != id { // authenticated as A, acting for B
			return presented{}, fosite.ErrInvalidRequest.WithHint("The client_id in the body differs from the one in the Authorization header.")
		}
		return presented{method: AuthBasic, id: id, secret: secret}, nil
	case form.Has("client_secret"):
		return presented{method: AuthPost, id: form.Get("client_id"), secret: form.Get("client_secret")}, nil
	case form.Get("client_id") != "":
		return presented{method: AuthNone, id: form.Get("client_id")}, nil
	}
	return presented{}, fosite.ErrInvalidClient.WithHint("The client did not authenticate.")
}

// presentedAssertion reads whom an assertion speaks for; nothing of it is believed yet.
func presentedAssertion(form url.Values) (presented, error) {
	if form.Get("client_assertion_type") != assertionType {
		return presented{}, fosite.ErrInvalidClient.WithHint("The client_assertion_type must be " + assertionType + ".")
	}
	a, err := parseAssertion(form.Get("client_assertion"))
	if err != nil {
		return presented{}, err
	}
	if form.Has("client_id") && form.Get("client_id") != a.Subject { // authenticated as A, acting for B
		return presented{}, fosite.ErrInvalidClient.WithHint("The client_id in the body differs from the one in the client assertion.")
	}
	return presented{method: methodAssertion, id: a.Subject, assertion: a}, nil
}

// decodeBasic undoes the form encoding of RFC 6749 §2.3.1. Many clients leave it out; what is not valid encoding is taken as it is.
func decodeBasic(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}
