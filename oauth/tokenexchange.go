package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/keys"
)

// GrantTokenExchange is the grant type of a service that goes on, to another API, in the name of the person whose token it was sent
// (RFC 8693). It is for clients that an operator has registered and that can prove who they are.
const GrantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

// Token types of RFC 8693 §3.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
)

// maxExchanges bounds how often a token is exchanged for another that is exchanged.
const maxExchanges = 4

// source is a token for which another one was given. Whatever ends it ends the other one.
type source struct {
	ID       string `json:"jti"`
	ClientID string `json:"client_id"`
}

// tokenExchange exchanges tokens of ours.
type tokenExchange struct {
	*store
	access *accessTokens
}

var _ fosite.TokenEndpointHandler = (*tokenExchange)(nil)

// CanHandleTokenEndpointRequest implements fosite.TokenEndpointHandler.
func (*tokenExchange) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(GrantTokenExchange)
}

// CanSkipClientAuth implements fosite.TokenEndpointHandler.
func (*tokenExchange) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// HandleTokenEndpointRequest implements fosite.TokenEndpointHandler. Nothing is widened: the scopes are some of those of the subject's
// token, the audience is among what an operator lets the client reach, and the new token ends no later than the old one.
func (x *tokenExchange) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	st, form := requestState(ctx), r.GetRequestForm()
	client := st.client
	if client.Public() || client.SelfMade() {
		return newError("unauthorized_client", "The client may not exchange tokens.")
	}
	if asked := form.Get("requested_token_type"); asked != "" && asked != typeAccessToken {
		return newError("invalid_request", "The requested_token_type is not supported: access tokens are given.")
	}
	subject, granted, err := x.subject(ctx, form, client)
	if err != nil {
		return err
	}
	if len(subject.Sources) >= maxExchanges {
		return newError("invalid_request", "The subject_token was exchanged too often.")
	}
	if !client.exchangesOf(subject.ClientID) {
		return errSubjectToken
	}
	if err := heldFor(st, client, subject); err != nil {
		return err
	}
	act, shown, err := x.actor(ctx, form, client, subject)
	if err != nil {
		return err
	}
	if st.resources = slices.Concat(form["resource"], form["audience"]); len(st.resources) == 0 {
		return newError("invalid_target", "Name the resource or audience that the token is for.")
	}
	if !containsAll(client.Audiences, st.resources) {
		return errTarget
	}
	scopes := slices.DeleteFunc(slices.Clone(granted), func(scope string) bool { return !slices.Contains(client.Scopes, scope) })
	if asked := strings.Fields(form.Get("scope")); len(asked) > 0 {
		if !containsAll(granted, asked) {
			return newError("invalid_scope", "The scope exceeds that of the subject_token.")
		}
		scopes = asked
	}
	sess := &session{
		Subject: subject.userID, GrantID: subject.GrantID, SessionID: subject.sessionID, ACR: subject.ACR, Reached: subject.ACR, AMR: subject.AMR,
		Act: act, sources: subject.Sources,
	}
	if subject.AuthTime != 0 {
		sess.AuthTime = time.Unix(subject.AuthTime, 0)
	}
	sess.sources = append(slices.Clone(subject.Sources), source{subject.ID, subject.ClientID})
	if shown != nil {
		sess.sources = append(sess.sources, source{shown.ID, shown.ClientID})
	}
	st.notAfter, st.subject = time.Unix(subject.Expires, 0), subject
	ar := r.(*fosite.AccessRequest)
	ar.Session, ar.GrantedScope = sess, scopes
	return nil
}

// exchangesOf reports whether a client may exchange tokens that were issued to another one.
func (r *registration) exchangesOf(clientID string) bool {
	return len(r.ExchangeFrom) == 0 || clientID == r.ID || slices.Contains(r.ExchangeFrom, clientID)
}

// heldFor wants proof of a key for a token that is tied to one: of the very key if the client was issued the token itself (a stolen
// token), else of the client's own, so that a tied token never becomes one that is not.
func heldFor(st *state, client *registration, c *accessClaims) error {
	switch {
	case c.Confirmation == nil:
		return nil
	case st.confirmation == nil:
		return proofError("The token is tied to a key: send a DPoP proof.")
	case c.ClientID == client.ID && *st.confirmation != *c.Confirmation:
		return proofError("The token is tied to another key.")
	}
	return nil
}

var errSubjectToken = newError("invalid_request", "The subject_token is not valid, or not for this client.") // RFC 8693 §2.2.2

// subject reads the token of the person in whose name the client goes on, and what it may hand on.
func (x *tokenExchange) subject(ctx context.Context, form url.Values, client *registration) (*accessClaims, []string, error) {
	token := form.Get("subject_token")
	if token == "" {
		return nil, nil, newError("invalid_request", "The subject_token is missing.")
	}
	switch form.Get("subject_token_type") {
	case typeAccessToken:
		c, err := x.presented(ctx, client, token)
		if err != nil {
			return nil, nil, err
		}
		if c.GrantID == "" { // of a client on its own behalf
			return nil, nil, newError("invalid_request", "The subject_token speaks of no person.")
		}
		return c, c.scopes(), nil
	case typeIDToken:
		return x.idSubject(ctx, client, token)
	}
	return nil, nil, newError("invalid_request", "The subject_token_type is not supported: use an access token or an ID token.")
}

// presented checks an access token as introspection would: by everything that may have ended since, and for this client alone.
func (x *tokenExchange) presented(ctx context.Context, client *registration, token string) (*accessClaims, error) {
	c, err := x.checkAccessToken(ctx, token)
	if errors.Is(err, errTokenInactive) {
		return nil, errSubjectToken
	}
	if err != nil {
		return nil, err
	}
	if ok, err := x.mayIntrospect(ctx, client, c); err != nil || !ok {
		return nil, errors.Join(err, errSubjectToken)
	}
	return c, nil
}

// idSubject takes an ID token of the client itself. It carries no scopes: what the person has allowed the client may be handed on.
func (x *tokenExchange) idSubject(ctx context.Context, client *registration, token string) (*accessClaims, []string, error) {
	verified, err := x.Keys.Verify(token)
	var c idClaims
	if err != nil || verified.Typ != "JWT" || json.Unmarshal(verified.Claims, &c) != nil {
		return nil, nil, errSubjectToken
	}
	if client.SubjectType == SubjectPairwise { // its names lead nowhere; its access tokens do
		return nil, nil, newError("invalid_request", "The client knows people by names of its own: exchange an access token.")
	}
	now := x.Now()
	issued := time.Unix(c.IssuedAt, 0)
	// Marks of what has ended are kept for as long as access tokens may live. A token without grant is from before the client might
	// exchange any: nobody could pause it, or count.
	if c.GrantID == "" || c.Issuer != x.Site.Issuer() || c.Audience != client.ID || c.Session == "" || c.Expires <= now.Unix() || now.Sub(issued) >= MaxAccessTokenTTL ||
		issued.Before(client.CreatedAt.Truncate(time.Second)) {
		return nil, nil, errSubjectToken
	}
	subject := &accessClaims{
		Subject: c.Subject, Expires: min(c.Expires, issued.Add(MaxAccessTokenTTL).Unix()), IssuedAt: c.IssuedAt, ClientID: client.ID, AuthTime: c.AuthTime, ACR: c.ACR, AMR: c.AMR,
		GrantID: c.GrantID, SessionID: c.Session, ID: c.ID, userID: c.Subject, sessionID: c.Session,
	}
	revoked, err := x.Revocations.revoked(ctx, grantedAt(c.GrantID), marksOf(subject)...)
	if err == nil && !revoked {
		revoked, err = x.Revocations.revoked(ctx, issued, markCut(c.GrantID))
	}
	if err != nil {
		return nil, nil, err
	}
	user, err := x.People.User(ctx, c.Subject)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && user.Status != "active", revoked:
		return nil, nil, errSubjectToken
	case err != nil:
		return nil, nil, err
	}
	if client.FirstParty {
		return subject, client.Scopes, nil
	}
	allowed, err := x.Consents.List(ctx, c.Subject)
	if err != nil {
		return nil, nil, err
	}
	for _, one := range allowed {
		if one.ClientID == client.ID {
			return subject, one.Scopes, nil // as they were allowed for no API in particular
		}
	}
	return nil, nil, errSubjectToken // they have taken it back
}

// actor tells who will act for the subject. By default that is the client itself, so that every API sees that the person is not
// there; a client that may impersonate leaves no trace in the token, only in the audit log and where the person sees it. With an
// actor_token it is the app which that token was issued to on its own behalf: a person's token, which was sent to the client for
// something else, must not make that person the one who acts (confused deputy).
func (x *tokenExchange) actor(ctx context.Context, form url.Values, client *registration, subject *accessClaims) (*actor, *accessClaims, error) {
	token, kind := form.Get("actor_token"), form.Get("actor_token_type")
	switch {
	case token == "" && kind != "":
		return nil, nil, newError("invalid_request", "The actor_token is missing.")
	case token == "" && client.Impersonates:
		return subject.Act, nil, nil
	case token == "":
		return &actor{client.ID, subject.Act}, nil, nil
	case kind != typeAccessToken:
		return nil, nil, newError("invalid_request", "The actor_token_type is not supported: use an access token.")
	}
	c, err := x.presented(ctx, client, token)
	if err != nil {
		return nil, nil, err
	}
	if c.GrantID != "" || c.Act != nil {
		return nil, nil, newError("invalid_request", "The actor_token does not speak for an app.")
	}
	if err := heldFor(requestState(ctx), client, c); err != nil {
		return nil, nil, err
	}
	return &actor{c.Subject, subject.Act}, c, nil
}

// PopulateTokenEndpointResponse implements fosite.TokenEndpointHandler. There is no refresh token: the new one lives on the old.
func (x *tokenExchange) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, answer fosite.AccessResponder) error {
	if !x.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	if err := x.delegate(ctx, r); err != nil {
		return err
	}
	token, _, err := x.access.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	answer.SetAccessToken(token)
	answer.SetTokenType("bearer")
	answer.SetScopes(r.GetGrantedScopes())
	answer.SetExtra("issued_token_type", typeAccessToken)
	return nil
}

// delegate counts the exchange and tells of it, when everything about it was found good and before anything is made.
func (x *tokenExchange) delegate(ctx context.Context, r fosite.AccessRequester) error {
	st, sess := requestState(ctx), r.GetSession().(*session)
	d := Delegation{
		GrantID: sess.GrantID, ClientID: st.client.ID, Actors: sess.Act.chain(), Resources: st.resources, Scopes: st.target.scopes,
		Expires: sess.GetExpiresAt(fosite.AccessToken),
	}
	if st.client.Impersonates && sess.Act.equal(st.subject.Act) {
		d.Actors = nil
	}
	for _, from := range slices.Backward(append(slices.Clone(st.subject.Sources), source{st.subject.ID, st.subject.ClientID})) {
		if len(d.Through) == 0 || d.Through[len(d.Through)-1] != from.ClientID {
			d.Through = append(d.Through, from.ClientID)
		}
	}
	st.grant = &grant{ID: d.GrantID, UsedAt: x.Now()} // for checkIssued: the person may stop it before the token is made
	err := x.Grants.spend(ctx, st.subject, d)
	if errors.Is(err, errSpent) {
		return errSubjectToken
	}
	if err != nil {
		return err
	}
	actor, through := d.Names()
	x.Audit.Record(ctx, audit.Event{
		Action: "token.exchange", Actor: st.client.ID, UserID: st.subject.userID, ClientID: st.client.ID,
		Detail: map[string]string{
			"grant_id": d.GrantID, "from_client": st.subject.ClientID, "acting": actor, "through": strings.Join(through, " "),
			"actors": strings.Join(sess.Act.chain(), " < "), "audience": strings.Join(st.resources, " "), "scope": join(d.Scopes),
		},
	})
	return nil
}

// sourcesActive looks whether what a token was exchanged for is still good: the tokens themselves, and for each of their clients what
// is asked of the client of any token.
func (s *Server) sourcesActive(ctx context.Context, c *accessClaims) (bool, error) {
	for _, from := range c.Sources {
		client, err := s.Clients.registration(ctx, from.ClientID)
		switch {
		case errors.Is(err, db.ErrNotFound), err == nil && (client.Disabled || c.IssuedAt < client.CreatedAt.Unix()):
			return false, nil
		case err != nil:
			return false, err
		}
		if ok, err := s.mayUse(ctx, client.Client, c.userID); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (c Client) validateExchange() error {
	exchanges := slices.Contains(c.GrantTypes, GrantTokenExchange)
	switch {
	case exchanges && c.Public():
		return fmt.Errorf("grant_types: %s needs a client that can prove who it is", GrantTokenExchange)
	case exchanges && len(c.Audiences) == 0:
		return fmt.Errorf("audiences: name the APIs for which the client may exchange tokens")
	case c.Impersonates && !exchanges:
		return fmt.Errorf("impersonates: only with the grant type %s", GrantTokenExchange)
	case len(c.ExchangeFrom) > 0 && !exchanges:
		return fmt.Errorf("exchange_from: only with the grant type %s", GrantTokenExchange)
	case len(c.ExchangeFrom) > maxListLength:
		return fmt.Errorf("exchange_from: at most %d", maxListLength)
	}
	return nil
}

// introspectionAlg is the algorithm of signed introspection answers (RFC 9701 §6). Without one it is that of the client's ID tokens, whose
// default is the same.
func introspectionAlg(client *registration) keys.Alg {
	return keys.Alg(cmp.Or(client.IntrospectionAlg, client.IDTokenAlg))
}
