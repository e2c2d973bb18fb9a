package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // refuses a member that stands twice

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Bounds on the life of the request objects of FAPI clients (FAPI 2.0 Message Signing §5.3.2).
const requestObjectLife = time.Hour

// requestObject is an authorization request as a signed JWT (RFC 9101).
type requestObject struct {
	requestObjectClaims
	header     joseHeader
	token      string
	parameters map[string]json.RawMessage
}

type requestObjectClaims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  audience     `json:"aud"`
	ClientID  string       `json:"client_id"`
	Expires   *numericDate `json:"exp"`
	NotBefore *numericDate `json:"nbf"`
	IssuedAt  *numericDate `json:"iat"`
	ID        string       `json:"jti"`
}

func objectError(hint string) error { return newError("invalid_request_object", hint) }

func parseRequestObject(token string) (*requestObject, error) {
	o := &requestObject{token: token}
	var err error
	if o.header, err = parseJWS(token, &o.parameters); err != nil {
		return nil, objectError("The request object is not a signed JWT.")
	}
	if _, err = parseJWS(token, &o.requestObjectClaims); err != nil {
		return nil, objectError("The request object has a claim of the wrong type.")
	}
	return o, nil
}

// opened replaces the parameters of an authorization request by those of the request object it brings or names: all of them
// (RFC 9101 §6.3), so that nothing can be slipped in beside. Without an object the parameters stay, unless the client must send one.
func (s *Server) opened(ctx context.Context, form url.Values) (url.Values, error) {
	byValue, byReference := form.Has("request"), form.Has("request_uri")
	client, err := s.client(ctx, form.Get("client_id"))
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && client.Disabled:
		return form, nil // parseAuthorization has the words for it
	case err != nil:
		return nil, err
	case !byValue && !byReference:
		if client.signs() {
			return nil, newError("invalid_request", "The app must send its request as a signed request object (RFC 9101).")
		}
		return form, nil
	case byValue && byReference: // RFC 9101 §5
		return nil, newError("invalid_request", "Send either request or request_uri.")
	}
	token := form.Get("request")
	if byReference {
		if token, err = s.fetchRequestObject(ctx, client, form.Get("request_uri")); err != nil {
			return nil, err
		}
	}
	if client.JWKSURI == "" && len(client.keys) == 0 { // before anything is decrypted: strangers know its name
		return nil, objectError("The app has no keys registered by which it could sign a request object.")
	}
	if token, err = s.unsealed(ctx, token); err != nil {
		s.Log.InfoContext(ctx, "encrypted request object refused", "client_id", client.ID, "err", err)
		return nil, objectError("The request object is not encrypted to a key of this server by an allowed algorithm.")
	}
	o, err := parseRequestObject(token)
	if err == nil {
		err = s.checkRequestObject(ctx, client, o, client.requestObjectAlgs(), client.rules().issuerAlone)
	}
	if err != nil {
		return nil, err
	}
	return o.form()
}

// checkRequestObject believes an object if it is signed by the client's own key, comes from the client and is meant for this server,
// now. short demands that it says from when to when, an hour at most.
func (s *Server) checkRequestObject(ctx context.Context, client *registration, o *requestObject, algs []string, short bool) error {
	switch strings.TrimPrefix(strings.ToLower(o.header.Typ), "application/") {
	case "", "jwt", "oauth-authz-req+jwt":
	default: // RFC 9101 §10.8: a proof or an assertion by the same key is no request
		return objectError("The request object has the typ of another kind of token.")
	}
	switch {
	case !slices.Contains(algs, o.header.Alg):
		return objectError("The request object is signed with an algorithm that the app is not registered for.")
	case o.ClientID != client.ID:
		return objectError("The client_id in the request object is not that of the request.")
	case o.Issuer != client.ID:
		return objectError("The iss of the request object must be the client_id.")
	case !slices.Equal(o.Audience, audience{s.Site.Issuer()}) && (client.rules().issuerAlone || !slices.Contains(o.Audience, s.Site.Issuer())):
		return objectError("The aud of the request object must be the issuer of this server.")
	case o.Subject == client.ID: // RFC 9101 §10.8.1: a client assertion
		return objectError("The request object must not have the client_id as its sub.")
	case o.parameters["request"] != nil, o.parameters["request_uri"] != nil: // RFC 9101 §4
		return objectError("A request object must not hold another.")
	}
	if err := s.checkObjectTimes(o, short); err != nil {
		return err
	}
	signed, err := s.signedBy(ctx, client, o.token, o.header)
	if err != nil {
		s.Log.WarnContext(ctx, "keys of a client cannot be fetched", "client_id", client.ID, "err", err)
		return objectError("The keys at the app's jwks_uri cannot be fetched.")
	}
	if !signed {
		return objectError("The signature of the request object does not fit the app's keys.")
	}
	return nil
}

// checkObjectTimes holds an object to its own exp and nbf. Only FAPI and CIBA demand that they are there.
func (s *Server) checkObjectTimes(o *requestObject, short bool) error {
	now, expires, from := s.Now(), time.Time{}, time.Time{}
	for _, one := range []struct {
		claim *numericDate
		into  *time.Time
	}{{o.Expires, &expires}, {o.NotBefore, &from}} {
		if one.claim == nil {
			if short {
				return objectError("The request object needs an exp and an nbf.")
			}
			continue
		}
		var ok bool
		if *one.into, ok = one.claim.time(); !ok {
			return objectError("The exp or nbf of the request object is no time.")
		}
	}
	switch {
	case o.Expires != nil && !expires.After(now.Add(-clockSkew)):
		return objectError("The request object has expired.")
	case o.NotBefore != nil && from.After(now.Add(clockSkew)):
		return objectError("The request object is from the future.")
	case !short:
	case from.Before(now.Add(-requestObjectLife)), expires.After(from.Add(requestObjectLife)):
		return objectError("The request object must live for an hour at most.")
	}
	return nil
}

// form turns the claims into parameters: text as it is; numbers, such as max_age, as they are written; objects, such as claims,
// as JSON (RFC 9101 §4); a list where a parameter may stand several times.
func (o *requestObject) form() (url.Values, error) {
	form := url.Values{}
	for name, raw := range o.parameters {
		switch text := string(raw); text[0] {
		case '"':
			var value string
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, objectError("The request object has a parameter that is not valid text.")
			}
			form.Set(name, value)
		case 'n': // null
		case '[':
			var list []string
			if slices.Contains(listParameters, name) && json.Unmarshal(raw, &list) == nil {
				form[name] = list
				break
			}
			form.Set(name, text)
		default:
			form.Set(name, text)
		}
	}
	if err := checkForm(form); err != nil {
		return nil, objectError("The request object has a parameter that is not valid text.")
	}
	return form, nil
}

// fetchRequestObject asks the client's server for a request object. Only addresses that were registered, letter by letter, are asked
// (server-side request forgery); strangers of one network cause no more than a bounded number of fetches. Nothing is kept: the parameters
// are read once, when the request begins, so no object counts for longer than it lives.
func (s *Server) fetchRequestObject(ctx context.Context, client *registration, uri string) (string, error) {
	if s.Outbound == nil {
		return "", newError("request_uri_not_supported", "Request objects are not fetched here.")
	}
	if !slices.Contains(client.RequestURIs, uri) {
		return "", newError("invalid_request_uri", "The request_uri is not registered for this app.")
	}
	if err := s.spendInteraction(ctx); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	address, _, _ := strings.Cut(uri, "#") // the fragment tells versions apart (OpenID Connect Core §6.2)
	body, _, err := s.Outbound.Get(ctx, address, "application/oauth-authz-req+jwt, application/jwt", keys.MaxEncrypted)
	if err != nil {
		s.Log.WarnContext(ctx, "request object cannot be fetched", "client_id", client.ID, "err", err)
		return "", newError("invalid_request_uri", "The request object cannot be fetched.")
	}
	return strings.TrimSpace(string(body)), nil
}

// asker is what is known of a request whose object is not good: enough to tell the app, if the parameters beside the object name a
// redirect URI that is registered; else nil.
func (s *Server) asker(ctx context.Context, form url.Values) *authorization {
	client, err := s.client(ctx, form.Get("client_id"))
	if err != nil || !matchRedirect(client.RedirectURIs, form.Get("redirect_uri")) || len(form.Get("state")) > maxState {
		return nil
	}
	req := &authorization{form: form, client: client, redirect: form.Get("redirect_uri"), state: form.Get("state")}
	_ = req.readMode() // one that is not known is the smaller mistake
	return req
}
