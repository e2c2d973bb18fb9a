package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// GrantJWTBearer is the grant type of a client that comes with the assertion of an issuer which the operator trusts (RFC 7523 §2.1): a
// machine with the token of the platform it runs on, or a service with the word of another identity provider about a person.
const GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// typIDJAG is the typ of an assertion by which an identity provider sends a client of its own to us
// (draft-ietf-oauth-identity-assertion-authz-grant). It names the client, and may bound what it gets.
const typIDJAG = "oauth-id-jag+jwt"

// bearerAssertion is an assertion taken apart.
type bearerAssertion struct {
	assertionClaims
	header joseHeader
	token  string
	all    map[string]json.RawMessage
	bounds *idJAG // nil: it names no bounds
}

// idJAG are the claims that an assertion of the type typIDJAG has beside.
type idJAG struct {
	ClientID string   `json:"client_id"`
	Scope    string   `json:"scope"`
	Resource audience `json:"resource"`
}

// errAssertion says that an assertion is not believed (RFC 7523 §3.1).
func errAssertion(hint string) error { return newError("invalid_grant", hint) }

func parseBearer(token string) (*bearerAssertion, error) {
	a := &bearerAssertion{token: token}
	var err error
	if a.header, err = parseJWS(token, &a.assertionClaims); err != nil {
		return nil, err
	}
	if _, err := parseJWS(token, &a.all); err != nil {
		return nil, err
	}
	switch strings.ToLower(a.header.Typ) {
	case "", "jwt", "authorization-grant+jwt":
	case typIDJAG:
		a.bounds = &idJAG{}
		if _, err := parseJWS(token, a.bounds); err != nil {
			return nil, err
		}
	default: // an ID, access or logout token is no assertion (RFC 8725 §3.11)
		return nil, errMalformedJWS
	}
	return a, nil
}

// bearerGrant gives tokens for assertions.
type bearerGrant struct {
	*store
	access *accessTokens
}

var _ fosite.TokenEndpointHandler = (*bearerGrant)(nil)

// CanHandleTokenEndpointRequest implements fosite.TokenEndpointHandler.
func (*bearerGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(GrantJWTBearer)
}

// CanSkipClientAuth implements fosite.TokenEndpointHandler.
func (*bearerGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// HandleTokenEndpointRequest implements fosite.TokenEndpointHandler. The order is that of cost and of harm: what strangers can do ends
// before a key is fetched, and an assertion is used up only when all else about it was found good.
func (g *bearerGrant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	client := requestState(ctx).client
	if client.SelfMade() {
		return newError("unauthorized_client", "The client may not use assertions.")
	}
	a, issuer, err := g.believed(ctx, client, r.GetRequestForm())
	if err != nil {
		return err
	}
	sess, err := g.named(ctx, client, issuer, a)
	if err != nil {
		g.tell(ctx, client, a, audit.Failure, "", map[string]string{"reason": "subject"})
		return err
	}
	permits, err := g.Issuers().permitsOf(ctx, issuer.Issuer, client.ID)
	if err != nil {
		return err
	}
	permits = slices.DeleteFunc(permits, func(p Permit) bool { // the issuer may be another since the permit was given
		return p.validate(issuer) != nil || !p.holds(a.all)
	})
	if len(permits) == 0 {
		g.tell(ctx, client, a, audit.Failure, sess.Subject, map[string]string{"reason": "permit"})
		return errAssertion("The client may not have a token for this assertion.")
	}
	var scopes, apis []string
	for _, p := range permits { // the first that is wide enough; two are never put together
		if scopes, apis, err = g.permitted(ctx, client, sess, a, p); err == nil {
			break
		}
	}
	if err == nil {
		err = g.useUp(ctx, issuer, a)
	}
	if err != nil {
		return err
	}
	requestState(ctx).resources = apis
	ar := r.(*fosite.AccessRequest)
	sess.SetExpiresAt(fosite.AccessToken, g.Now().UTC().Add(g.accessLife(client)))
	ar.Session, ar.GrantedScope = sess, scopes
	detail := map[string]string{"scope": join(scopes), "audience": strings.Join(apis, " ")}
	if sess.Subject == "" {
		detail["subject"] = cut(a.Subject, maxDescription)
	} else {
		detail["grant_id"], detail["acting"] = sess.GrantID, client.ID
	}
	g.tell(ctx, client, a, audit.Success, sess.Subject, detail)
	return nil
}

func (g *bearerGrant) tell(ctx context.Context, client *registration, a *bearerAssertion, outcome, userID string, detail map[string]string) {
	detail["issuer"] = a.Issuer
	g.Audit.Record(ctx, audit.Event{Action: "token.assertion", Outcome: outcome, Actor: client.ID, UserID: userID, ClientID: client.ID, Detail: detail})
}

// believed gives an assertion that a trusted issuer made for this server, and that is of now.
func (g *bearerGrant) believed(ctx context.Context, client *registration, form url.Values) (*bearerAssertion, Issuer, error) {
	if form.Get("assertion") == "" {
		return nil, Issuer{}, newError("invalid_request", "The assertion is missing.")
	}
	a, err := parseBearer(form.Get("assertion"))
	if err != nil {
		return nil, Issuer{}, errAssertion("The assertion is not a signed JWT, or has the typ of another kind of token.")
	}
	issuer, err := g.Issuers().Get(ctx, a.Issuer)
	switch {
	// What this server signs is for others: none of it may come back as an assertion.
	case errors.Is(err, db.ErrNotFound), err == nil && (issuer.Disabled || !slices.Contains(issuer.For, ForTokens) || a.Issuer == g.Site.Issuer()):
		return nil, Issuer{}, errAssertion("The issuer of the assertion is not trusted.")
	case err != nil:
		return nil, Issuer{}, err
	case client.Public() && issuer.Subject != SubjectService: // whoever finds the assertion could use it
		return nil, Issuer{}, newError("unauthorized_client", "The client must prove who it is.")
	}
	if problem := g.problem(client, issuer, a); problem != "" {
		return nil, Issuer{}, errAssertion(problem)
	}
	signed, err := g.signedByIssuer(ctx, issuer, a.token, a.header)
	if err != nil {
		g.Log.WarnContext(ctx, "keys of an issuer cannot be fetched", "issuer", issuer.Issuer, "err", err)
		return nil, Issuer{}, newError("temporarily_unavailable", "The keys of the assertion's issuer cannot be fetched.")
	}
	if !signed {
		return nil, Issuer{}, errAssertion("The signature of the assertion does not fit the issuer's keys.")
	}
	return a, issuer, nil
}

// problem holds the claims against RFC 7523 §3.
func (g *bearerGrant) problem(client *registration, issuer Issuer, a *bearerAssertion) string {
	now := g.Now()
	names := []string{g.Site.Issuer()}
	if !client.rules().issuerAlone {
		names = append(names, g.Site.URL("/token"))
		if base := g.Certificates.URL; base != "" {
			names = append(names, base+"/token")
		}
	}
	foreign := func(name string) bool { return !slices.Contains(names, name) } // one that is also meant for others could be replayed from there
	switch {
	case !slices.Contains(issuer.Algs, a.header.Alg):
		return "The assertion is signed with an algorithm that is not accepted of its issuer."
	case a.Subject == "" || len(a.Subject) > maxURILength:
		return "The assertion needs a sub."
	case len(a.Audience.audience) == 0 || slices.ContainsFunc(a.Audience.audience, foreign):
		return "The aud of the assertion must be the issuer of this server, and nobody else."
	case a.bounds != nil && a.bounds.ClientID != client.ID:
		return "The assertion was made for another client."
	case len(a.ID) > 1024 || a.ID == "" && !issuer.Reusable:
		return "The assertion needs a jti."
	case a.Expires == nil:
		return "The assertion needs an exp."
	}
	expires, ok := a.Expires.time()
	switch {
	case !ok || expires.After(now.Add(issuer.MaxLife+clockSkew)):
		return "The assertion expires too far in the future."
	case !expires.After(now.Add(-clockSkew)):
		return "The assertion has expired."
	}
	for _, since := range []*numericDate{a.NotBefore, a.IssuedAt} {
		if since == nil {
			continue
		}
		if at, ok := since.time(); !ok || at.After(now.Add(clockSkew)) {
			return "The assertion is from the future."
		}
	}
	if a.IssuedAt != nil {
		if at, _ := a.IssuedAt.time(); expires.Sub(at) > issuer.MaxLife {
			return "The assertion lives too long."
		}
	}
	return ""
}

// signedByIssuer reports whether a key of an issuer made a signature. An error says that its keys cannot be fetched.
func (s *Server) signedByIssuer(ctx context.Context, i Issuer, token string, header joseHeader) (bool, error) {
	keys := &registration{Client: Client{ID: i.Issuer}}
	keys.JWKSURI = i.JWKSURI
	if i.JWKSURI == "" {
		var err error
		if keys.keys, err = parseKeySet(i.JWKS); err != nil {
			return false, err
		}
	}
	return s.signedBy(ctx, keys, token, header)
}

// named gives the session of whom an assertion names. Nobody is made an account by it.
func (g *bearerGrant) named(ctx context.Context, client *registration, issuer Issuer, a *bearerAssertion) (*session, error) {
	var user identity.User
	var err error
	began := g.Now() // before the person is looked at, see newGrantID
	switch issuer.Subject {
	case SubjectService:
		return &session{}, nil
	case SubjectLinked:
		user, err = g.People.WhoIs(ctx, identity.Elsewhere{Provider: issuer.Provider, Issuer: a.Issuer, Subject: a.Subject})
	default:
		user, err = g.People.Active(ctx, a.Subject)
	}
	switch {
	// One answer for all: whether there is an account, or what state it is in, is not told.
	case errors.Is(err, identity.ErrNotFound), err == nil && (g.RequireVerifiedEmail && !user.EmailVerified || user.MustChangePassword):
		return nil, errAssertion("The sub of the assertion leads to nobody here.")
	case err != nil:
		return nil, err
	}
	// Whatever ended the person or the consent since ends the token.
	sess, err := g.Grants.acting(ctx, user.ID, client, began)
	if errors.Is(err, errSpent) {
		return nil, errAssertion("The person has stopped the client, or bounded it.")
	}
	if err != nil {
		return nil, err
	}
	sess.Act = &actor{client.ID, nil} // that the person is not there is to be seen in the token
	return sess, nil
}

// permitted is what the client gets under a permit: what it asks for, or else all that it may have.
func (g *bearerGrant) permitted(ctx context.Context, client *registration, sess *session, a *bearerAssertion, p Permit) (scopes, apis []string, err error) {
	st := requestState(ctx)
	apis = st.resources
	for _, bound := range [][]string{p.APIs, a.bounds.resources()} {
		switch {
		case len(bound) == 0:
		case len(apis) == 0:
			apis = bound
		case !containsAll(bound, apis):
			return nil, nil, errTarget
		}
	}
	may, err := g.mayHave(ctx, client, sess, apis)
	if err != nil {
		return nil, nil, err
	}
	for _, bound := range [][]string{p.Scopes, a.bounds.scopes()} {
		if len(bound) > 0 {
			may = slices.DeleteFunc(may, func(scope string) bool { return !slices.Contains(bound, scope) })
		}
	}
	if len(st.scopes) == 0 {
		return may, apis, nil
	}
	if !containsAll(may, st.scopes) {
		return nil, nil, newError("invalid_scope", "The scope exceeds what the client may have for this assertion.")
	}
	return st.scopes, apis, nil
}

// mayHave lists the scopes that the client may have of a person, who must have allowed them, or for itself. Those of sign-ins are not
// among them, nor those that open something of this server.
func (g *bearerGrant) mayHave(ctx context.Context, client *registration, sess *session, apis []string) ([]string, error) {
	list := slices.DeleteFunc(slices.Clone(client.Scopes), func(scope string) bool {
		return ownScope(scope) || scope == scopeOpenID || scope == scopeOfflineAccess || sess.Subject == "" && personScope(scope) || sess.Kept != nil && !slices.Contains(sess.Kept, scope)
	})
	if sess.Subject == "" || client.FirstParty {
		return list, nil
	}
	allowed, err := g.Consents.List(ctx, sess.Subject)
	if err != nil {
		return nil, err
	}
	for _, one := range allowed {
		if one.ClientID != client.ID {
			continue
		}
		return slices.DeleteFunc(list, func(scope string) bool {
			if len(apis) == 0 {
				return !slices.Contains(one.Scopes, scope)
			}
			return slices.ContainsFunc(apis, func(api string) bool { return !slices.Contains(one.Scopes, scope+" "+api) })
		}), nil
	}
	return nil, errAssertion("The person has not allowed the client anything.")
}

func (j *idJAG) scopes() []string {
	if j == nil {
		return nil
	}
	return strings.Fields(j.Scope)
}

func (j *idJAG) resources() []string {
	if j == nil {
		return nil
	}
	return j.Resource
}

// useUp marks an assertion, in one step, so that of two copies one wins.
func (g *bearerGrant) useUp(ctx context.Context, issuer Issuer, a *bearerAssertion) error {
	if issuer.Reusable {
		return nil
	}
	expires, _ := a.Expires.time()
	sum := sha256.Sum256([]byte(a.Issuer + "\x00" + a.ID))
	first, err := g.Cache.Add(ctx, "bearer:"+base64.RawURLEncoding.EncodeToString(sum[:]), expires.Add(clockSkew).Sub(g.Now())+clockSkew)
	if err == nil && !first {
		err = errAssertion("The assertion was used before.")
	}
	return err
}

// PopulateTokenEndpointResponse implements fosite.TokenEndpointHandler. There is no refresh token (RFC 7521 §4.1): who still has a right
// to an assertion brings the next one.
func (g *bearerGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, answer fosite.AccessResponder) error {
	if !g.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	sess := r.GetSession().(*session)
	if sess.Subject != "" {
		if err := g.act(ctx, r.GetClient().(*registration), sess, r.GetGrantedScopes()); err != nil {
			return err
		}
	}
	token, _, err := g.access.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	answer.SetAccessToken(token)
	answer.SetTokenType("bearer")
	answer.SetExpiresIn(g.accessLife(r.GetClient().(*registration)))
	answer.SetScopes(r.GetGrantedScopes())
	return nil
}

// act counts a token that speaks of a person. What they allowed is looked at once more behind the count, which waits for a pause
// that is about to be committed: else one that comes in between would be undone (revocation race). checkIssued looks for later ones.
func (g *bearerGrant) act(ctx context.Context, client *registration, sess *session, scopes []string) error {
	st, now := requestState(ctx), g.Now()
	st.grant = &grant{
		ID: sess.GrantID, UserID: sess.Subject, ClientID: client.ID, Scopes: scopes, Session: sess, Generation: generationActing,
		CreatedAt: grantedAt(sess.GrantID), UsedAt: now, ExpiresAt: now.Add(g.grantLife(client)),
	}
	err := g.DB.Tx(ctx, func(ctx context.Context) error {
		if err := g.Grants.act(ctx, !client.FirstParty, st.grant); err != nil {
			return err
		}
		may, err := g.mayHave(ctx, client, sess, st.resources)
		if err == nil && !containsAll(may, scopes) {
			err = errSpent
		}
		return err
	})
	if errors.Is(err, errSpent) || errors.Is(err, errGrantOver) {
		return errAssertion("The person has stopped the client, or bounded it.")
	}
	return err
}

// validateBearer keeps a client without proof of itself to assertions that prove which machine it is.
func (c Client) validateBearer() error {
	if slices.Contains(c.GrantTypes, GrantJWTBearer) && c.SelfMade() {
		return errors.New("grant_types: " + GrantJWTBearer + " is for clients that an operator has registered")
	}
	return nil
}
