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

// authenticateClient is fosite's ClientAuthenticationStrategy and our own for every other endpoint. A request names one
// client and proves it by exactly one method, the registered one (RFC 6749 §2.3: "MUST NOT use more than one").
func (s *Server) authenticateClient(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
	if c := requestState(ctx).client; c != nil { // the endpoint has done it
		return c, nil
	}
	method, id, secret, err := presentedCredentials(r, form)
	if err != nil {
		return nil, err
	}
	client, err := s.Clients.registration(ctx, id)
	if errors.Is(err, db.ErrNotFound) {
		(&registration{secrets: [][]byte{make([]byte, 32)}}).authenticate(secret) // the same work as for a known client
		return nil, fosite.ErrInvalidClient.WithHint("The client is unknown.")
	}
	if err != nil {
		return nil, err
	}
	if method != client.AuthMethod {
		return nil, fosite.ErrInvalidClient.WithHintf("The client is registered for the authentication method %s.", client.AuthMethod)
	}
	if !client.Public() && !client.authenticate(secret) {
		return nil, fosite.ErrInvalidClient.WithHint("The client secret is wrong.")
	}
	if client.Disabled {
		return nil, fosite.ErrInvalidClient.WithHint("The client is disabled.")
	}
	requestState(ctx).client = client
	return client, nil
}

func presentedCredentials(r *http.Request, form url.Values) (method, id, secret string, err error) {
	basicID, basicSecret, basic := r.BasicAuth()
	switch {
	case form.Has("client_assertion") || form.Has("client_assertion_type"):
		return "", "", "", fosite.ErrInvalidClient.WithHint("Client assertions are not supported.")
	case r.Header.Get("Authorization") != "" && !basic:
		return "", "", "", fosite.ErrInvalidClient.WithHint("The Authorization header is not valid HTTP Basic authentication.")
	case len(r.Header.Values("Authorization")) > 1, basic && form.Has("client_secret"):
		return "", "", "", fosite.ErrInvalidRequest.WithHint("Use exactly one client authentication method.")
	case basic:
		id, secret = decodeBasic(basicID), decodeBasic(basicSecret)
		if form.Has("client_id") && form.Get("client_id") != id { // authenticated as A, acting for B
			return "", "", "", fosite.ErrInvalidRequest.WithHint("The client_id in the body differs from the one in the Authorization header.")
		}
		return AuthBasic, id, secret, nil
	case form.Has("client_secret"):
		return AuthPost, form.Get("client_id"), form.Get("client_secret"), nil
	case form.Get("client_id") != "":
		return AuthNone, form.Get("client_id"), "", nil
	}
	return "", "", "", fosite.ErrInvalidClient.WithHint("The client did not authenticate.")
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
