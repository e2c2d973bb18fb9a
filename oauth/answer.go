package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/keys"
)

// GrantImplicit is what RFC 7591 §2.1 calls the way of tokens that come with the redirect. The token endpoint knows nothing of it.
const GrantImplicit = "implicit"

// responseType is what an answer to an authorization request holds. The one without anything says that the person has signed in and
// agreed (OAuth 2.0 Multiple Response Types §4).
type responseType struct {
	name                 string // the words in alphabetical order
	code, idToken, token bool
}

// responseTypes are all that can be served. An access token alone is not among them: nothing would tie it to the app it was made for
// (access token injection), and OAuth 2.1 has dropped it.
var responseTypes = []responseType{
	{name: "code", code: true},
	{name: "none"},
	{name: "id_token", idToken: true},
	{name: "id_token token", idToken: true, token: true},
	{name: "code id_token", code: true, idToken: true},
	{name: "code token", code: true, token: true},
	{name: "code id_token token", code: true, idToken: true, token: true},
}

// frontTokenLife is how long an access token lives that has been in a browser's address: long enough to ask userinfo.
const frontTokenLife = 5 * time.Minute

// front reports whether tokens travel with the redirect (OpenID Connect Core §3.2, §3.3).
func (t responseType) front() bool { return t.idToken || t.token }

// responseTypeOf finds a type by its words, whose order says nothing (OAuth 2.0 Multiple Response Types §3).
func responseTypeOf(value string) (t responseType, ok bool) {
	words := strings.Split(value, " ")
	slices.Sort(words)
	name := strings.Join(words, " ")
	i := slices.IndexFunc(responseTypes, func(t responseType) bool { return t.name == name })
	if i < 0 {
		return responseType{}, false
	}
	return responseTypes[i], true
}

// anyResponseType reports whether one of the named types is as asked.
func anyResponseType(names []string, is func(t responseType) bool) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		t, ok := responseTypeOf(name)
		return ok && is(t)
	})
}

func holdsCode(t responseType) bool { return t.code }

func holdsToken(t responseType) bool { return t.token }

// responseTypeNames are those that this server offers.
func (s *Server) responseTypeNames() (names []string) {
	for _, t := range responseTypes {
		if s.LegacyResponseTypes || !t.front() {
			names = append(names, t.name)
		}
	}
	return names
}

// mayAnswer reports whether a client may ask for a type. Whoever may ask for anything may ask for nothing, if the profile knows that.
func (c Client) mayAnswer(t responseType) bool {
	r := c.rules()
	registered := slices.Contains(c.ResponseTypes, t.name) || t.name == "none" && len(c.ResponseTypes) > 0
	return registered && (r.answers == nil || slices.Contains(r.answers, t.name))
}

// withResponseTypes gives response types their usual names, and the grant types that follow from them.
func (c Client) withResponseTypes() Client {
	c.ResponseTypes = slices.Clone(c.ResponseTypes)
	for i, name := range c.ResponseTypes {
		if t, ok := responseTypeOf(name); ok {
			c.ResponseTypes[i] = t.name
		}
	}
	if len(c.GrantTypes) == 0 && (len(c.ResponseTypes) == 0 || anyResponseType(c.ResponseTypes, holdsCode)) {
		c.GrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}
	}
	if len(c.ResponseTypes) == 0 && slices.Contains(c.GrantTypes, GrantAuthorizationCode) {
		c.ResponseTypes = []string{"code"}
	}
	if anyResponseType(c.ResponseTypes, responseType.front) && !slices.Contains(c.GrantTypes, GrantImplicit) {
		c.GrantTypes = append(slices.Clone(c.GrantTypes), GrantImplicit)
	}
	return c
}

func (c Client) validateResponseTypes() error {
	for i, name := range c.ResponseTypes {
		t, ok := responseTypeOf(name)
		switch {
		case !ok || t.name != name:
			return fmt.Errorf("response_types %q: use code, none, id_token, or several words out of code, id_token and token, in this order", name)
		case slices.Contains(c.ResponseTypes[:i], name):
			return fmt.Errorf("response_types %q: stands twice", name)
		case t.token && (c.DPoPBound || c.CertificateBound):
			return fmt.Errorf("response_types %q: a token that comes with the redirect cannot be tied to a key", name)
		case t.token && isAgent(c):
			return fmt.Errorf("response_types %q: agents get their tokens from the token endpoint, where people can bound them", name)
		}
	}
	for _, rule := range []struct {
		grant string
		is    func(t responseType) bool
		hint  string
	}{{GrantAuthorizationCode, holdsCode, `"code"`}, {GrantImplicit, responseType.front, `"id_token"`}} {
		granted, answers := slices.Contains(c.GrantTypes, rule.grant), anyResponseType(c.ResponseTypes, rule.is)
		switch {
		case granted && len(c.RedirectURIs) == 0:
			return fmt.Errorf("redirect_uris: the grant type %s needs at least one", rule.grant)
		case granted && !answers:
			return fmt.Errorf("response_types: the grant type %s needs one such as %s", rule.grant, rule.hint)
		case answers && !granted:
			return fmt.Errorf("response_types: such as %s only with the grant type %s", rule.hint, rule.grant)
		}
	}
	if len(c.ResponseTypes) > 0 && len(c.RedirectURIs) == 0 {
		return errors.New("redirect_uris: an answer needs at least one")
	}
	return nil
}

// checkResponseType judges what an app asks for as its answer.
func (s *Server) checkResponseType(req *authorization) error {
	t, known := responseTypeOf(req.form.Get("response_type"))
	switch {
	case !req.form.Has("response_type"):
		return newError("invalid_request", "The response_type is missing: use code.")
	case !known || t.front() && !s.LegacyResponseTypes:
		return newError("unsupported_response_type", "The response_type is not supported: use code.")
	case !req.client.mayAnswer(t):
		return newError("unauthorized_client", "The app is not registered for this response_type.")
	case t.front() && !slices.Contains(strings.Fields(req.form.Get("scope")), scopeOpenID):
		return newError("invalid_request", "This response_type needs the scope openid.")
	case t.idToken && req.form.Get("nonce") == "": // else an ID token of another sign-in could be slipped in (OpenID Connect Core §3.2.2.1)
		return newError("invalid_request", "The nonce is missing: this response_type needs one.")
	case t.token || !t.code:
		// What these name is judged where a code is redeemed; a token in an address shall open nothing that is guarded so well.
		for _, name := range []string{"resource", "authorization_details", "dpop_jkt"} {
			if req.form.Has(name) {
				return newError("invalid_request", "The parameter "+name+" needs the response_type code or code id_token.")
			}
		}
	}
	return nil
}

// frontAnswer is what an ID token tells beside the usual if it comes with the redirect.
type frontAnswer struct {
	codeHash string
	alone    bool // nothing else comes, so that it alone can tell about the person (OpenID Connect Core §5.4)
}

// answer makes what the response type names, and nothing else: the one place where that is decided. All of it dates from before session and
// consent were read: what ends one of them meanwhile ends the grant as well (revocation race).
func (s *Server) answer(r *http.Request, req *authorization, sess *identity.Session, began time.Time) (url.Values, error) {
	params, t := url.Values{}, req.answer
	if !t.code && !t.front() {
		return params, nil
	}
	grantID, err := newGrantID(began)
	if err != nil {
		return nil, err
	}
	asked, _ := req.wantedACRs()
	granted := req.interaction.Budget.bind(&session{
		Subject: sess.UserID, GrantID: grantID, SessionID: sess.ID, AuthTime: sess.AuthTime, Undated: sess.Undated, Provider: sess.Provider, RequestedAt: req.interaction.CreatedAt,
		ACR: reportedACR(sess.ACR(), asked), Reached: sess.ACR(), AMR: sess.AMR, Nonce: req.form.Get("nonce"), Claims: req.claims,
		Resources: req.resources.identifiers(), Details: req.details,
	}, began)
	ctx := withState(r.Context(), &state{client: req.client, issuedAt: began, jkt: req.form.Get("dpop_jkt"), pkceExcused: req.client.pkceExcused(req.form.Get("nonce"))})
	if t.code {
		code, err := s.issueCode(ctx, r, req, granted)
		if err != nil {
			return nil, err
		}
		params.Set("code", code)
	}
	if t.front() {
		if err := s.issueTokens(ctx, req, granted, params); err != nil {
			return nil, err
		}
	}
	if err := s.Outbox.enter(ctx, req.client, sess.UserID, sess.ID); err != nil {
		return nil, err
	}
	if t.code {
		err = s.saveCode(ctx)
	}
	return params, err
}

// issueCode lets fosite check the request by its own rules and make the code.
func (s *Server) issueCode(ctx context.Context, r *http.Request, req *authorization, granted *session) (string, error) {
	if !slices.Contains(req.client.RedirectURIs, req.redirect) { // fosite knows the rule for loopback addresses, but not for localhost
		client := *req.client
		client.RedirectURIs = []string{req.redirect}
		requestState(ctx).client = &client
	}
	ar, err := s.provider.NewAuthorizeRequest(ctx, fositeRequest(r, req.form))
	// fosite wants a state of eight characters; OAuth 2.1 leaves it to the app, whose request PKCE or the nonce protects.
	// It is the last of fosite's checks: the request is complete.
	if err != nil && !errors.Is(err, fosite.ErrInvalidState) {
		return "", err
	}
	for _, scope := range req.scopes {
		ar.GrantScope(scope)
	}
	resp, err := s.provider.NewAuthorizeResponse(ctx, ar, granted)
	if err != nil {
		return "", err
	}
	return resp.GetCode(), nil
}

// issueTokens adds the tokens of a legacy response type to the answer. There is never a refresh token among them.
func (s *Server) issueTokens(ctx context.Context, req *authorization, granted *session, params url.Values) error {
	alg := keys.Alg(req.client.IDTokenAlg)
	of := &fosite.Request{ID: granted.GrantID, Client: req.client, GrantedScope: req.scopes, Form: url.Values{}, Session: granted}
	if req.answer.token {
		if err := s.aim(ctx, req.client, granted, req.scopes); err != nil { // what an API wants of its tokens cannot be left out here
			return err
		}
		st, life, now := requestState(ctx), min(s.accessLife(req.client), frontTokenLife), s.Now().UTC()
		if st.life > 0 {
			life = min(life, st.life)
		}
		granted.SetExpiresAt(fosite.AccessToken, now.Add(life)) // and not beyond the grant
		token, _, err := (&accessTokens{s}).GenerateAccessToken(ctx, of)
		if err != nil {
			return err
		}
		params.Set("access_token", token)
		params.Set("token_type", "Bearer")
		params.Set("expires_in", strconv.Itoa(int(granted.GetExpiresAt(fosite.AccessToken).Sub(now)/time.Second)))
		params.Set("scope", join(req.scopes))
		if st.target != nil {
			params.Set("scope", join(st.target.scopes))
		}
		granted.IDTokenClaims().AccessTokenHash = leftHalf(alg, token)
	}
	if !req.answer.idToken {
		return nil
	}
	front := &frontAnswer{alone: !req.answer.code && !req.answer.token}
	if req.answer.code {
		front.codeHash = leftHalf(alg, params.Get("code"))
	}
	requestState(ctx).front = front
	token, err := (&idTokens{s}).GenerateIDToken(ctx, s.IDTokenTTL, of)
	if err != nil {
		return err
	}
	params.Set("id_token", token)
	return nil
}

// leftHalf is at_hash and c_hash: half the hash that goes with the ID token's signature (OpenID Connect Core §3.3.2.11). With Ed25519 that
// is SHA-512.
func leftHalf(alg keys.Alg, value string) string {
	if alg == keys.EdDSA {
		sum := sha512.Sum512([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
