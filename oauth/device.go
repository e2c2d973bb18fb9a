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
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// GrantDeviceCode is the grant type of devices without a browser or a keyboard (RFC 8628 §3.4).
const GrantDeviceCode = "urn:ietf:params:oauth:grant-type:device_code"

const (
	deviceLife     = 10 * time.Minute
	deviceInterval = 5 * time.Second // between two polls
	// pollWindow forgives a device whose polls do not take equally long to arrive.
	pollWindow = 4 * time.Second

	devicesAtOnce = 60 // new requests from one network per deviceLife
)

// userCodeLetters leaves out vowels, so that no code is a word, and the letters that are taken for digits (RFC 8628 §6.1).
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// deviceRequest is what a device asked for and a person decides in a browser somewhere else.
type deviceRequest struct {
	ClientID  string    `json:"client_id"`
	Scopes    []string  `json:"scopes"`
	Resources []string  `json:"resources,omitempty"`
	Details   details   `json:"authorization_details,omitempty"`
	UserCode  string    `json:"user_code"`
	CreatedAt time.Time `json:"created_at"`
	Address   string    `json:"address"` // from where it was asked: shown to the person, who knows whether that is their device
	Browser   string    `json:"browser"`

	key string // under which it is kept, made of the device code's hash
}

func (d *deviceRequest) over(now time.Time) bool { return now.After(d.CreatedAt.Add(deviceLife)) }

// deviceAnswer is what the person decided.
type deviceAnswer struct {
	Denied bool        `json:"denied,omitempty"`
	Code   *codeRecord `json:"code,omitempty"`
}

// Device tells a page which device waits for a person's decision.
type Device struct {
	UserCode  string // as the device shows it, "WDJB-MJHT"
	Address   string // from where it asked
	Browser   string // its User-Agent header
	CreatedAt time.Time
}

// deviceKey is where the request of a device code is kept: under its hash, so that a dump of the cache holds no code. The
// part in braces keeps request and answer on one node of a Redis Cluster.
func deviceKey(code string) string {
	sum := sha256.Sum256([]byte(code))
	return "device:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

func answerKey(key string) string { return key + ":answer" }

func userCodeKey(code string) string { return "user-code:" + code }

// newUserCode gives eight letters out of twenty: 2.5e10 codes, of which a stranger may try ten in five minutes.
func newUserCode() string {
	code := make([]byte, 0, userCodeLength)
	for len(code) < userCodeLength {
		var b [1]byte
		_, _ = rand.Read(b[:])                                // never fails (crypto/rand)
		if n := int(b[0]); n < 256-256%len(userCodeLetters) { // every letter is as likely as the others
			code = append(code, userCodeLetters[n%len(userCodeLetters)])
		}
	}
	return string(code)
}

// normalUserCode forgives what people do to a code as they type it: case, dashes, spaces. ok is false for what cannot be one.
func normalUserCode(typed string) (code string, ok bool) {
	if len(typed) > 64 {
		return "", false
	}
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '_' || r == '.' || r == '\u00a0' || r == '\u2013' || r == '\u2011' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	return code, len(code) == userCodeLength && !strings.ContainsFunc(code, func(r rune) bool { return !strings.ContainsRune(userCodeLetters, r) })
}

func showUserCode(code string) string { return code[:userCodeLength/2] + "-" + code[userCodeLength/2:] }

// deviceAuthorization is the answer of RFC 8628 §3.2.
type deviceAuthorization struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// deviceAuthorization answers POST /device_authorization (RFC 8628 §3.1).
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.beginDevice(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) beginDevice(r *http.Request) (*deviceAuthorization, error) {
	form, err := bodyForm(r)
	if err != nil {
		return nil, err
	}
	ctx := withState(r.Context(), &state{})
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return nil, err
	}
	client, err := s.widened(ctx, requestState(ctx).client)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(client.GrantTypes, GrantDeviceCode) {
		return nil, newError("unauthorized_client", "The client is not registered for the device grant.")
	}
	asked, err := s.resources(ctx, client, form["resource"])
	if err != nil {
		return nil, err
	}
	wanted, reach, err := s.readDetails(ctx, client, form.Get("authorization_details"))
	if err == nil {
		err = checkTargets(asked, reach)
	}
	if err != nil {
		return nil, err
	}
	d := &deviceRequest{ClientID: client.ID, Resources: asked.identifiers(), Details: wanted, CreatedAt: s.Now().UTC(), UserCode: newUserCode(), Browser: cut(web.UserAgent(ctx), 300)}
	if address := web.Address(ctx); address.IsValid() {
		d.Address = address.String()
	}
	for _, scope := range strings.Fields(form.Get("scope")) {
		if !slices.Contains(client.Scopes, scope) {
			return nil, newError("invalid_scope", "The client is not registered for a scope it asked for.")
		}
		if !slices.Contains(d.Scopes, scope) {
			d.Scopes = append(d.Scopes, scope)
		}
	}
	// Anybody can name a public client: what one network can leave here is bounded.
	wait, err := s.Cache.Allow(ctx, "devices:"+web.Network(ctx), devicesAtOnce, deviceLife)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, newError("temporarily_unavailable", "Too many requests from this network.")
	}
	b := make([]byte, codeBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	code := base64.RawURLEncoding.EncodeToString(b)
	d.key = deviceKey(code)
	value, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode device request: %w", err)
	}
	// It stays known after its end, so that the device hears "expired" and not "unknown".
	if err := s.Cache.Put(ctx, d.key, value, 2*deviceLife); err != nil {
		return nil, err
	}
	if err := s.Cache.Put(ctx, userCodeKey(d.UserCode), []byte(d.key), deviceLife); err != nil {
		return nil, err
	}
	page := s.Site.URL("/device")
	return &deviceAuthorization{
		DeviceCode: code, UserCode: showUserCode(d.UserCode), VerificationURI: page,
		VerificationURIComplete: page + "?user_code=" + showUserCode(d.UserCode),
		ExpiresIn:               int(deviceLife.Seconds()), Interval: int(deviceInterval.Seconds()),
	}, nil
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// loadDevice gives a request that waits for an answer, or db.ErrNotFound.
func (s *Server) loadDevice(ctx context.Context, key string) (*deviceRequest, error) {
	value, ok, err := s.Cache.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, db.ErrNotFound
	}
	d := &deviceRequest{key: key}
	if err := json.Unmarshal(value, d); err != nil {
		return nil, fmt.Errorf("decode device request: %w", err)
	}
	return d, nil
}

// BeginDevice takes the code that a person typed and returns the interaction in which they sign in and decide, or
// db.ErrNotFound for a code that no device shows (any more). The caller bounds the tries.
func (s *Server) BeginDevice(ctx context.Context, typed string) (interactionID string, err error) {
	code, ok := normalUserCode(typed)
	if !ok {
		return "", db.ErrNotFound
	}
	key, ok, err := s.Cache.Get(ctx, userCodeKey(code))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", db.ErrNotFound
	}
	req, err := s.parseAuthorization(ctx, url.Values{deviceParameter: {string(key)}})
	if err != nil {
		if describe(err).status < http.StatusInternalServerError {
			return "", db.ErrNotFound
		}
		return "", err
	}
	in := s.newInteraction(req)
	return in.ID, s.saveInteraction(ctx, in)
}

// deviceParameter leads from an interaction to the request of a device. It is ours: keepRequest lets no app send it.
const deviceParameter = "device"

// parseDevice reads the request of a device in place of an app's parameters.
func (s *Server) parseDevice(ctx context.Context, form url.Values) (*authorization, error) {
	d, err := s.loadDevice(ctx, form.Get(deviceParameter))
	if errors.Is(err, db.ErrNotFound) || (err == nil && d.over(s.Now())) {
		return nil, newError("expired_token", "The device has waited too long.")
	}
	if err != nil {
		return nil, err
	}
	client, err := s.Clients.registration(ctx, d.ClientID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, newError("invalid_client", "The app is not known here.")
	}
	if err != nil {
		return nil, err
	}
	req := &authorization{form: form, maxAge: -1, client: client, scopes: d.Scopes, device: d}
	if client.Disabled {
		return req, newError("unauthorized_client", "The app is disabled.")
	}
	if req.resources, err = s.resources(ctx, client, d.Resources); err != nil || len(d.Details) == 0 {
		return req, err
	}
	raw, err := json.Marshal(d.Details)
	if err == nil {
		req.details, err = s.parseDetails(ctx, client, string(raw)) // as the types are now
	}
	return req, err
}

// deviceDone is where a person ends up whose device goes on.
const deviceDone = "/device/done"

// answerDevice tells the device what the person decided. Only the first answer counts, as the code that leads to the request is
// taken with it.
func (s *Server) answerDevice(w http.ResponseWriter, r *http.Request, req *authorization, sess *identity.Session, began time.Time, denied bool) error {
	ctx, d := r.Context(), req.device
	answer := deviceAnswer{Denied: denied}
	if !denied {
		grantID, err := newGrantID(began)
		if err != nil {
			return s.refuse(w, r, req, err)
		}
		answer.Code = &codeRecord{
			ClientID: d.ClientID, IssuedAt: began, Scopes: d.Scopes, OpenID: slices.Contains(d.Scopes, scopeOpenID),
			Session: req.interaction.Budget.bind(&session{
				Subject: sess.UserID, GrantID: grantID, SessionID: sess.ID, AuthTime: sess.AuthTime, Undated: sess.Undated, RequestedAt: d.CreatedAt, ACR: sess.ACR(), AMR: sess.AMR,
				Resources: d.Resources, Details: d.Details,
			}, began),
		}
		if err := s.Outbox.enter(ctx, req.client, sess.UserID, sess.ID); err != nil {
			return s.refuse(w, r, req, err)
		}
	}
	value, err := json.Marshal(answer)
	if err != nil {
		return s.refuse(w, r, req, fmt.Errorf("encode answer: %w", err))
	}
	if _, first, err := s.Cache.Take(ctx, userCodeKey(d.UserCode)); err != nil {
		return s.refuse(w, r, req, err)
	} else if !first {
		return s.refuse(w, r, nil, newError("invalid_request", "The device has its answer already."))
	}
	if err := s.Cache.Put(ctx, answerKey(d.key), value, 2*deviceLife); err != nil {
		return s.refuse(w, r, req, err)
	}
	if err := s.endInteraction(ctx, req.interaction); err != nil {
		return s.refuse(w, r, req, err)
	}
	next := deviceDone
	switch scope := map[string]string{"scope": join(d.Scopes)}; {
	case !denied:
		s.Audit.Record(ctx, audit.Event{Action: "device.allow", Outcome: audit.Success, Actor: sess.UserID, UserID: sess.UserID, ClientID: d.ClientID, Detail: scope})
	case sess != nil:
		s.Audit.Record(ctx, audit.Event{Action: "device.deny", Outcome: audit.Success, Actor: sess.UserID, UserID: sess.UserID, ClientID: d.ClientID, Detail: scope})
		next += "?n=denied"
	default:
		next += "?n=denied"
	}
	w.Header()["Cache-Control"] = noStore
	http.Redirect(w, r, s.Site.Path(next), http.StatusSeeOther)
	return nil
}

// deviceGrant exchanges a device code (RFC 8628 §3.4). fosite's own handler reports expired codes as pending for ever and revokes the
// wrong grant after a replay.
type deviceGrant struct {
	*store
	access  *accessTokens
	refresh refreshStrategy
	id      *openid.IDTokenHandleHelper
}

var _ fosite.TokenEndpointHandler = (*deviceGrant)(nil)

// CanHandleTokenEndpointRequest implements fosite.TokenEndpointHandler.
func (*deviceGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(GrantDeviceCode)
}

// CanSkipClientAuth implements fosite.TokenEndpointHandler.
func (*deviceGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// HandleTokenEndpointRequest implements fosite.TokenEndpointHandler: it takes the person's answer, which one request gets.
func (g *deviceGrant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	st := requestState(ctx)
	code := r.GetRequestForm().Get("device_code")
	if code == "" || len(code) > 128 {
		return newError("invalid_request", "The device_code is missing.")
	}
	key := deviceKey(code)
	d, err := g.loadDevice(ctx, key)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && d.ClientID != st.client.ID:
		return newError("invalid_grant", "The device_code is not known.")
	case err != nil:
		return err
	case d.CreatedAt.Before(st.client.CreatedAt): // a client that is gone asked for it (identifier reuse)
		return newError("invalid_grant", "The device_code is not known.")
	}
	if err := g.pace(ctx, key); err != nil {
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
	var answer deviceAnswer
	if err := json.Unmarshal(value, &answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if answer.Denied {
		return newError("access_denied", "The person did not allow it.")
	}
	st.code, st.codeKey = answer.Code, key
	if !first { // somebody has a copy of the code: what the first one got ends (RFC 6749 §10.5)
		return errors.Join(newError("invalid_grant", "The device_code has been used."), g.Grants.codeReplayed(ctx, answer.Code))
	}
	if g.Now().After(answer.Code.IssuedAt.Add(deviceLife)) {
		return newError("expired_token", "The device has waited too long.")
	}
	ar := r.(*fosite.AccessRequest)
	ar.Session, ar.GrantedScope = answer.Code.Session, answer.Code.Scopes
	ar.ID = answer.Code.Session.GrantID
	ar.Session.SetExpiresAt(fosite.AccessToken, g.Now().UTC().Add(g.accessLife(st.client)))
	return nil
}

// pace holds a device to the interval. Polls that come at the same moment may slip through together: the claim of the answer
// is what lets only one of them have it.
func (g *deviceGrant) pace(ctx context.Context, key string) error {
	now := g.Now()
	last, ok, err := g.Cache.Get(ctx, key+":polled")
	if err != nil {
		return err
	}
	if err := g.Cache.Put(ctx, key+":polled", []byte(now.UTC().Format(time.RFC3339Nano)), deviceLife); err != nil {
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
func (g *deviceGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, answer fosite.AccessResponder) error {
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
