package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/openid"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

const (
	decoupledLife = 10 * time.Minute
	pollInterval  = 5 * time.Second // between two polls
	// pollWindow forgives a client whose polls do not take equally long to arrive.
	pollWindow = 4 * time.Second
)

// decoupled is a request that a person decides in a browser apart from whoever asked: a device without a browser (RFC 8628), or an
// app that has the person at another channel (CIBA).
type decoupled struct {
	Grant     string        `json:"grant"` // grant type by which the answer is fetched
	ClientID  string        `json:"client_id"`
	Form      url.Values    `json:"form"` // what was asked for, of decoupledParameters
	CreatedAt time.Time     `json:"created_at"`
	Life      time.Duration `json:"life"`

	// Of a device. From where it asked is shown to the person, who knows whether that is their device.
	UserCode string `json:"user_code,omitempty"`
	Address  string `json:"address,omitempty"`
	Browser  string `json:"browser,omitempty"`

	// Of an app.
	UserID  string `json:"user_id,omitempty"` // who alone may decide; "": nobody can
	Message string `json:"message,omitempty"` // shown there and to the person, who compares
	Ping    []byte `json:"ping,omitempty"`    // sealed, see pingNote

	key string // under which it is kept, made of the code's hash
}

func (d *decoupled) over(now time.Time) bool { return now.After(d.CreatedAt.Add(d.Life)) }

// decoupledParameters are what a decoupled request asks for; they are read anew at each step, since the client may change meanwhile.
var decoupledParameters = []string{"scope", "resource", "authorization_details", "acr_values"}

// decoupledAnswer is what the person decided.
type decoupledAnswer struct {
	Denied bool        `json:"denied,omitempty"`
	Code   *codeRecord `json:"code,omitempty"`
}

// errDecided says that a request has its answer already.
var errDecided = newError("expired_token", "The request has its answer already.")

// decoupledKey is where the request of a code is kept: under its hash, so that a dump of the cache holds no code. A code of one
// grant type is none of another. The part in braces keeps request and answer on one node of a Redis Cluster.
func decoupledKey(grant, code string) string {
	sum := sha256.Sum256([]byte(grant + "\x00" + code))
	return "decoupled:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

func answerKey(key string) string { return key + ":answer" }

// newDecoupled checks what a client asks for and makes the request, with the code by which the client will fetch the answer.
func (s *Server) newDecoupled(ctx context.Context, grant string, client *registration, form url.Values) (d *decoupled, code string, err error) {
	if _, err := s.readDecoupled(ctx, client, form); err != nil {
		return nil, "", err
	}
	b := make([]byte, codeBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	code = base64.RawURLEncoding.EncodeToString(b)
	d = &decoupled{Grant: grant, ClientID: client.ID, Form: url.Values{}, CreatedAt: s.Now().UTC(), Life: decoupledLife, key: decoupledKey(grant, code)}
	size := 0
	for _, name := range decoupledParameters {
		if values := form[name]; len(values) > 0 {
			d.Form[name] = values
			size += len(strings.Join(values, ""))
		}
	}
	if size > maxRequest {
		return nil, "", newError("invalid_request", "The request is too long.")
	}
	return d, code, nil
}

// readDecoupled reads what is asked for as the authorization endpoint would.
func (s *Server) readDecoupled(ctx context.Context, client *registration, form url.Values) (*authorization, error) {
	req := &authorization{form: url.Values{"acr_values": form["acr_values"]}, maxAge: -1, client: client}
	for _, scope := range strings.Fields(form.Get("scope")) {
		if !slices.Contains(client.Scopes, scope) {
			return req, newError("invalid_scope", "The client is not registered for a scope it asked for.")
		}
		if !slices.Contains(req.scopes, scope) {
			req.scopes = append(req.scopes, scope)
		}
	}
	var err error
	if req.resources, err = s.resources(ctx, client, form["resource"]); err != nil {
		return req, err
	}
	var reach [][]string
	if req.details, reach, err = s.readDetails(ctx, client, form.Get("authorization_details")); err == nil {
		err = checkTargets(req.resources, reach)
	}
	return req, err
}

// saveDecoupled keeps a request. It stays known after its end, so that the client hears "expired" and not "unknown".
func (s *Server) saveDecoupled(ctx context.Context, d *decoupled) error {
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode decoupled request: %w", err)
	}
	return s.Cache.Put(ctx, d.key, value, 2*d.Life)
}

// loadDecoupled gives a request and whether it has its answer, or db.ErrNotFound.
func (s *Server) loadDecoupled(ctx context.Context, key string) (d *decoupled, answered bool, err error) {
	values, err := s.Cache.GetMany(ctx, key, answerKey(key))
	if err != nil {
		return nil, false, err
	}
	if values[0] == nil {
		return nil, false, db.ErrNotFound
	}
	d = &decoupled{key: key}
	if err := json.Unmarshal(values[0], d); err != nil {
		return nil, false, fmt.Errorf("decode decoupled request: %w", err)
	}
	return d, values[1] != nil, nil
}

// beginDecoupled returns the interaction in which a person signs in and decides, or db.ErrNotFound for a request that cannot be decided
// (any more).
func (s *Server) beginDecoupled(ctx context.Context, key string) (interactionID string, err error) {
	req, err := s.parseAuthorization(ctx, url.Values{decoupledParameter: {key}})
	if err != nil {
		if describe(err).status < http.StatusInternalServerError {
			return "", db.ErrNotFound
		}
		return "", err
	}
	in := s.newInteraction(req)
	return in.ID, s.saveInteraction(ctx, in)
}

// decoupledParameter leads from an interaction to a decoupled request. It is ours: keepRequest lets no app send it.
const decoupledParameter = "decoupled"

// sensitiveAge is how long ago a person may have proven who they are who decides about something sensitive that they did not begin.
const sensitiveAge = 10 * time.Minute

// parseDecoupled reads a decoupled request in place of an app's parameters.
func (s *Server) parseDecoupled(ctx context.Context, form url.Values) (*authorization, error) {
	d, answered, err := s.loadDecoupled(ctx, form.Get(decoupledParameter))
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && d.over(s.Now()):
		return nil, newError("expired_token", "The request has waited too long.")
	case err != nil:
		return nil, err
	case answered:
		return nil, errDecided
	case d.Grant == GrantCIBA && d.UserID == "":
		return nil, newError("expired_token", "The request is for nobody.")
	}
	client, err := s.Clients.registration(ctx, d.ClientID)
	if errors.Is(err, db.ErrNotFound) || err == nil && d.CreatedAt.Before(client.CreatedAt) {
		return nil, newError("invalid_client", "The app is not known here.")
	}
	if err == nil {
		client, err = s.widened(ctx, client)
	}
	if err != nil {
		return nil, err
	}
	req, err := s.readDecoupled(ctx, client, d.Form)
	req.form.Set(decoupledParameter, d.key)
	req.decoupled = d
	req.maxAge = client.maxAge()
	if d.Grant == GrantCIBA && (len(req.details) > 0 || client.rules().bound) && (req.maxAge < 0 || req.maxAge > sensitiveAge) {
		req.maxAge = sensitiveAge
	}
	switch {
	case client.Disabled:
		return req, newError("unauthorized_client", "The app is disabled.")
	case !slices.Contains(client.GrantTypes, d.Grant):
		return req, newError("unauthorized_client", "The app may not ask in this way.")
	}
	return req, err
}

// mine reports whether a person may decide a request.
func (d *decoupled) mine(sess *identity.Session) bool {
	return d.Grant == GrantDeviceCode || sess != nil && sess.UserID == d.UserID
}

// deviceDone and requestDone are where a person ends up who has decided.
const (
	deviceDone  = "/device/done"
	requestDone = "/account/requests?done=request_"
)

// answerDecoupled writes down what the person decided.
func (s *Server) answerDecoupled(w http.ResponseWriter, r *http.Request, req *authorization, sess *identity.Session, began time.Time, denied bool) error {
	ctx, d := r.Context(), req.decoupled
	if !d.mine(sess) { // another tab has switched accounts meanwhile
		return s.refuse(w, r, nil, newError("access_denied", "The request is for somebody else."))
	}
	answer := decoupledAnswer{Denied: denied}
	if !denied {
		var err error
		if answer.Code, err = s.decoupledCode(req, sess, began); err != nil {
			return s.refuse(w, r, req, err)
		}
		// Before the answer can be fetched, as with a code. The session is the grant's own.
		if err := s.Outbox.enter(ctx, req.client, sess.UserID, answer.Code.Session.SessionID); err != nil {
			return s.refuse(w, r, req, err)
		}
	}
	if err := s.decide(ctx, d, answer); err != nil {
		return s.refuse(w, r, nil, err)
	}
	s.recordDecision(ctx, d, sess, req.scopes, denied)
	if err := s.endInteraction(ctx, req.interaction); err != nil {
		return s.refuse(w, r, req, err)
	}
	next := deviceDone
	switch {
	case d.Grant == GrantCIBA:
		next = requestDone + choose(denied, "denied", "allowed")
	case denied:
		next += "?n=denied"
	}
	w.Header()["Cache-Control"] = noStore
	http.Redirect(w, r, s.Site.Path(next), http.StatusSeeOther)
	return nil
}

// decoupledCode is all that the tokens will say. What they are given for is a sign-in of its own, under the id of the grant: it neither
// ends with the session of the browser in which the person happened to decide, nor can it outlive the person's no.
func (s *Server) decoupledCode(req *authorization, sess *identity.Session, began time.Time) (*codeRecord, error) {
	grantID, err := newGrantID(began)
	if err != nil {
		return nil, err
	}
	asked, _ := req.wantedACRs()
	return &codeRecord{
		ClientID: req.client.ID, IssuedAt: began, Scopes: req.scopes, OpenID: slices.Contains(req.scopes, scopeOpenID),
		Session: req.interaction.Budget.bind(&session{
			Subject: sess.UserID, GrantID: grantID, SessionID: grantID, AuthTime: sess.AuthTime, Undated: sess.Undated, Provider: sess.Provider, RequestedAt: req.decoupled.CreatedAt,
			ACR: reportedACR(sess.ACR(), asked), Reached: sess.ACR(), AMR: sess.AMR, Resources: req.resources.identifiers(), Details: req.details,
		}, began),
	}, nil
}

// decide writes the answer of a request; errDecided says that it has one. It is one step of the cache, so that whoever is cut short in it
// leaves neither two answers nor a request that can never have one.
func (s *Server) decide(ctx context.Context, d *decoupled, answer decoupledAnswer) error {
	value, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	put := func(ctx context.Context) error {
		first, err := s.Cache.PutNew(ctx, answerKey(d.key), value, 2*d.Life)
		if err == nil && !first {
			err = errDecided
		}
		return err
	}
	if d.Grant == GrantCIBA {
		return s.decideRequest(ctx, d, answer.Denied, put)
	}
	if err := put(ctx); err != nil {
		return err
	}
	if err := s.Cache.Delete(ctx, userCodeKey(d.UserCode)); err != nil { // it leads nowhere any more
		s.Log.InfoContext(ctx, "code of a device not deleted", "client_id", d.ClientID, "err", err)
	}
	return nil
}

func (s *Server) recordDecision(ctx context.Context, d *decoupled, sess *identity.Session, scopes []string, denied bool) {
	if sess == nil {
		return
	}
	user, detail := sess.UserID, map[string]string{"scope": join(scopes)}
	switch {
	case d.Grant == GrantCIBA && denied:
		s.Audit.Record(ctx, audit.Event{Action: "request.deny", Outcome: audit.Success, Actor: user, UserID: user, ClientID: d.ClientID, Detail: detail})
	case d.Grant == GrantCIBA:
		s.Audit.Record(ctx, audit.Event{Action: "request.allow", Outcome: audit.Success, Actor: user, UserID: user, ClientID: d.ClientID, Detail: detail})
	case denied:
		s.Audit.Record(ctx, audit.Event{Action: "device.deny", Outcome: audit.Success, Actor: user, UserID: user, ClientID: d.ClientID, Detail: detail})
	default:
		s.Audit.Record(ctx, audit.Event{Action: "device.allow", Outcome: audit.Success, Actor: user, UserID: user, ClientID: d.ClientID, Detail: detail})
	}
}

// decoupledGrant exchanges the code of a decoupled request (RFC 8628 §3.4, CIBA §10.1). fosite's own handler for devices reports expired
// codes as pending for ever and revokes the wrong grant after a replay.
type decoupledGrant struct {
	*store
	grant, parameter string // "…:device_code", "device_code"

	access  *accessTokens
	refresh refreshStrategy
	id      *openid.IDTokenHandleHelper
}

var _ fosite.TokenEndpointHandler = (*decoupledGrant)(nil)

// CanHandleTokenEndpointRequest implements fosite.TokenEndpointHandler.
func (g *decoupledGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(g.grant)
}

// CanSkipClientAuth implements fosite.TokenEndpointHandler.
func (*decoupledGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// HandleTokenEndpointRequest implements fosite.TokenEndpointHandler: it takes the person's answer, which one request gets.
func (g *decoupledGrant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	st := requestState(ctx)
	code := r.GetRequestForm().Get(g.parameter)
	if code == "" || len(code) > 128 {
		return newError("invalid_request", "The "+g.parameter+" is missing.")
	}
	key := decoupledKey(g.grant, code)
	d, _, err := g.loadDecoupled(ctx, key)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && d.ClientID != st.client.ID:
		return newError("invalid_grant", "The "+g.parameter+" is not known.")
	case err != nil:
		return err
	case d.CreatedAt.Before(st.client.CreatedAt): // a client that is gone asked for it (identifier reuse)
		return newError("invalid_grant", "The "+g.parameter+" is not known.")
	}
	if err := g.pace(ctx, d); err != nil {
		return err
	}
	value, first, ok, err := g.Cache.Claim(ctx, answerKey(key))
	if err != nil {
		return err
	}
	if !ok {
		if d.over(g.Now()) {
			return newError("expired_token", "The person did not decide in time. Start again.")
		}
		return newError("authorization_pending", "The person has not decided yet.")
	}
	var answer decoupledAnswer
	if err := json.Unmarshal(value, &answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if answer.Denied {
		return newError("access_denied", "The person did not allow it.")
	}
	st.code, st.codeKey = answer.Code, key
	if !first { // somebody has a copy of the code: what the first one got ends (RFC 6749 §10.5)
		return errors.Join(newError("invalid_grant", "The "+g.parameter+" has been used."), g.Grants.codeReplayed(ctx, answer.Code))
	}
	if g.Now().After(answer.Code.IssuedAt.Add(decoupledLife)) {
		return newError("expired_token", "The answer has waited too long.")
	}
	ar := r.(*fosite.AccessRequest)
	ar.Session, ar.GrantedScope = answer.Code.Session, answer.Code.Scopes
	ar.ID = answer.Code.Session.GrantID
	ar.Session.SetExpiresAt(fosite.AccessToken, g.Now().UTC().Add(g.accessLife(st.client)))
	return nil
}

// pace holds a client to the interval. Polls that come at the same moment may slip through together: the claim of the answer
// is what lets only one of them have it.
func (g *decoupledGrant) pace(ctx context.Context, d *decoupled) error {
	now := g.Now()
	last, ok, err := g.Cache.Get(ctx, d.key+":polled")
	if err != nil {
		return err
	}
	if err := g.Cache.Put(ctx, d.key+":polled", []byte(now.UTC().Format(time.RFC3339Nano)), d.Life); err != nil {
		return err
	}
	if before, err := time.Parse(time.RFC3339Nano, string(last)); ok && err == nil && now.Sub(before) < pollWindow {
		return newError("slow_down", "Wait for the interval between two requests.")
	}
	return nil
}

// accessLife is how long an access token of a client lives.
func (s *Server) accessLife(c *registration) time.Duration {
	return c.GetEffectiveLifespan("", fosite.AccessToken, s.AccessTokenTTL)
}

// PopulateTokenEndpointResponse implements fosite.TokenEndpointHandler.
func (g *decoupledGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, answer fosite.AccessResponder) error {
	if !g.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	client, sess := r.GetClient().(*registration), r.GetSession().(*session)
	token, _, err := g.access.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	answer.SetAccessToken(token)
	answer.SetTokenType("bearer")
	answer.SetExpiresIn(g.accessLife(client))
	answer.SetScopes(r.GetGrantedScopes())
	if r.GetGrantedScopes().Has(scopeOfflineAccess) && slices.Contains(client.GrantTypes, GrantRefreshToken) {
		refresh, signature, err := g.refresh.GenerateRefreshToken(ctx, r)
		if err != nil {
			return err
		}
		if err := g.CreateRefreshTokenSession(ctx, signature, "", r); err != nil {
			return err
		}
		answer.SetExtra("refresh_token", refresh)
	}
	if !r.GetGrantedScopes().Has(scopeOpenID) {
		return nil
	}
	sess.IDTokenClaims().AccessTokenHash = g.id.GetAccessTokenHash(ctx, r, answer)
	return g.id.IssueExplicitIDToken(ctx, g.IDTokenTTL, r, answer)
}
