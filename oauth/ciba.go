package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// GrantCIBA is the grant type of apps that reach a person without a browser of theirs: a call centre, a till, a speaker (OpenID Connect
// Client-Initiated Backchannel Authentication Core 1.0 §10.1). It is for clients that an operator has registered and that can prove who
// they are.
const GrantCIBA = "urn:openid:params:grant-type:ciba"

// Ways in which a client learns that it has an answer. Pushing tokens to it is not supported.
const (
	DeliveryPoll = "poll"
	DeliveryPing = "ping"
)

const (
	maxRequestLife  = time.Hour
	maxLoginHint    = 512  // bytes
	maxMessage      = 100  // characters of a binding_message
	maxNotification = 1024 // of a client_notification_token (CIBA §7.1)

	requestsAtOnce = 3000 // new requests of one client per decoupledLife
)

// Backchannel is how a client uses CIBA. The JSON names are those of CIBA §4.
type Backchannel struct {
	DeliveryMode          string `json:"backchannel_token_delivery_mode,omitempty"`
	NotificationEndpoint  string `json:"backchannel_client_notification_endpoint,omitempty"`
	BackchannelRequestAlg string `json:"backchannel_authentication_request_signing_alg,omitempty"` // of its requests, which must then be signed
}

func (c Client) validateBackchannel() error {
	ciba := slices.Contains(c.GrantTypes, GrantCIBA)
	switch {
	case !ciba && c.Backchannel != (Backchannel{}):
		return fmt.Errorf("backchannel_token_delivery_mode: only with the grant type %s", GrantCIBA)
	case !ciba:
		return nil
	case c.Public() || c.SelfMade():
		return fmt.Errorf("grant_types: %s is for clients that an operator has registered and that can prove who they are", GrantCIBA)
	case !slices.Contains(c.Scopes, scopeOpenID):
		return fmt.Errorf("scope: the grant type %s needs openid", GrantCIBA)
	case c.DeliveryMode != DeliveryPoll && c.DeliveryMode != DeliveryPing:
		return fmt.Errorf("backchannel_token_delivery_mode %q: use poll or ping", c.DeliveryMode)
	case c.DeliveryMode == DeliveryPoll && c.NotificationEndpoint != "":
		return fmt.Errorf("backchannel_client_notification_endpoint: only with the delivery mode ping")
	case c.DeliveryMode == DeliveryPing && (!webURL(c.NotificationEndpoint) || strings.Contains(c.NotificationEndpoint, "#")):
		return fmt.Errorf("backchannel_client_notification_endpoint %q: the delivery mode ping needs an https URL (http only on loopback)", c.NotificationEndpoint)
	case c.rules().signed && c.BackchannelRequestAlg == "":
		return fmt.Errorf("backchannel_authentication_request_signing_alg: the profile %s signs requests: use one of %s", c.profile(), oneOf(c.backchannelAlgs()))
	case c.BackchannelRequestAlg != "" && !slices.Contains(c.backchannelAlgs(), c.BackchannelRequestAlg):
		return fmt.Errorf("backchannel_authentication_request_signing_alg %q: use one of %s", c.BackchannelRequestAlg, oneOf(c.backchannelAlgs()))
	case c.BackchannelRequestAlg != "" && len(c.JWKS) == 0 && c.JWKSURI == "":
		return fmt.Errorf("backchannel_authentication_request_signing_alg: signed requests need the client's public keys, as jwks or jwks_uri")
	}
	return nil
}

// backchannelAlgs are the algorithms that the client's signed requests may have.
func (c Client) backchannelAlgs() []string {
	if algs := c.rules().algs; algs != nil {
		return algs
	}
	return requestObjectAlgs
}

// deliveryModes are those that work.
func (s *Server) deliveryModes() []string {
	if s.Outbox == nil {
		return []string{DeliveryPoll}
	}
	return []string{DeliveryPoll, DeliveryPing}
}

// backchannelAnswer is the answer of CIBA §7.3.
type backchannelAnswer struct {
	AuthReqID string `json:"auth_req_id"`
	ExpiresIn int    `json:"expires_in"`
	Interval  int    `json:"interval"`
}

// backchannelAuthorize answers POST /bc-authorize (CIBA §7).
func (s *Server) backchannelAuthorize(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.beginRequest(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) beginRequest(r *http.Request) (*backchannelAnswer, error) {
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
	if client.Public() || client.SelfMade() || !slices.Contains(client.GrantTypes, GrantCIBA) {
		return nil, newError("unauthorized_client", "The client is not registered for CIBA.")
	}
	if form, err = s.openedRequest(ctx, client, form); err != nil {
		return nil, err
	}
	if !slices.Contains(strings.Fields(form.Get("scope")), scopeOpenID) {
		return nil, newError("invalid_scope", "The scope must hold openid.")
	}
	d, code, err := s.newDecoupled(ctx, GrantCIBA, client, form)
	if err != nil {
		return nil, err
	}
	if err := s.readRequest(d, client, code, form); err != nil {
		return nil, err
	}
	user, err := s.hinted(ctx, client, form)
	if err != nil {
		return nil, err
	}
	wait, err := s.Cache.Allow(ctx, "requests:"+client.ID, requestsAtOnce, decoupledLife)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, newError("temporarily_unavailable", "Too many requests of this client.")
	}
	if err := s.ask(ctx, d, client, user); err != nil {
		return nil, err
	}
	return &backchannelAnswer{AuthReqID: code, ExpiresIn: int(d.Life.Seconds()), Interval: int(pollInterval.Seconds())}, nil
}

// readRequest reads the parameters that only CIBA has (§7.1).
func (s *Server) readRequest(d *decoupled, client *registration, code string, form url.Values) error {
	d.Message = form.Get("binding_message")
	if !printable(d.Message) || utf8.RuneCountInString(d.Message) > maxMessage {
		return newError("invalid_binding_message", "The binding_message must be one line of at most "+strconv.Itoa(maxMessage)+" printable characters.")
	}
	if raw := form.Get("requested_expiry"); raw != "" {
		seconds, err := strconv.ParseUint(raw, 10, 31)
		if err != nil || seconds == 0 {
			return newError("invalid_request", "The requested_expiry is not a number of seconds.")
		}
		d.Life = min(time.Duration(seconds)*time.Second, maxRequestLife)
	}
	if client.DeliveryMode != DeliveryPing {
		return nil
	}
	token := form.Get("client_notification_token")
	if !bearerToken(token) || len(token) > maxNotification {
		return newError("invalid_request", "The client_notification_token must be a bearer token of at most "+strconv.Itoa(maxNotification)+" characters.")
	}
	note, err := json.Marshal(pingNote{AuthReqID: code, Token: token})
	if err != nil {
		return err
	}
	d.Ping = s.Seal.Seal(note, purposePing)
	return nil
}

// bearerToken reports whether a text can stand in an Authorization header (RFC 6750 §2.1).
func bearerToken(token string) bool {
	body := strings.TrimRight(token, "=")
	return body != "" && !strings.ContainsFunc(body, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}

// hinted finds the person that the one hint of a request names; the zero User is nobody whom the client could ask. Nobody looks like a
// person who does not answer (see ask): clients pass on what strangers type, who must not learn who has an account (account
// enumeration).
func (s *Server) hinted(ctx context.Context, client *registration, form url.Values) (identity.User, error) {
	var hints []string
	for _, name := range []string{"login_hint", "id_token_hint", "login_hint_token"} {
		if form.Get(name) != "" {
			hints = append(hints, name)
		}
	}
	if len(hints) != 1 {
		return identity.User{}, newError("invalid_request", "Send exactly one of login_hint and id_token_hint.")
	}
	value := form.Get(hints[0])
	switch hints[0] {
	case "login_hint_token":
		return identity.User{}, newError("invalid_request", "The login_hint_token is not supported: use login_hint or id_token_hint.")
	case "id_token_hint":
		h, err := s.parseHint(ctx, value)
		switch {
		case err != nil:
			return identity.User{}, newError("invalid_request", "The id_token_hint is not an ID token of this server.")
		case !slices.Equal(h.Audience, audience{client.ID}): // it says nothing about whom this client knows
			return identity.User{}, newError("invalid_request", "The id_token_hint was made for another client.")
		case client.SubjectType == SubjectPairwise: // its names lead nowhere
			return identity.User{}, newError("invalid_request", "The client knows people by names of its own: use login_hint.")
		}
		return s.askable(ctx, client, func() (identity.User, error) { return s.People.User(ctx, h.Subject) })
	}
	if len(value) > maxLoginHint {
		return identity.User{}, newError("invalid_request", "The login_hint is too long.")
	}
	if client.SubjectType != SubjectPairwise && validID(value) {
		return s.askable(ctx, client, func() (identity.User, error) { return s.People.User(ctx, value) })
	}
	return s.askable(ctx, client, func() (identity.User, error) {
		user, err := s.People.UserByEmail(ctx, value)
		if err == nil && !user.EmailVerified { // it may be somebody else's
			err = db.ErrNotFound
		}
		return user, err
	})
}

// askable is the person, if the client may ask them anything.
func (s *Server) askable(ctx context.Context, client *registration, find func() (identity.User, error)) (identity.User, error) {
	user, err := find()
	if errors.Is(err, db.ErrNotFound) || err == nil && user.Status != identity.StatusActive {
		return identity.User{}, nil
	}
	if err != nil {
		return identity.User{}, err
	}
	if ok, err := s.mayUse(ctx, client.Client, user.ID); err != nil || !ok {
		return identity.User{}, err
	}
	return user, nil
}

// ask shows a request to its person. One that cannot, or should not, be shown waits for nobody and looks the same to the client: the
// person is unknown, does not want to hear of the app, has just refused it, or is asked too much (prompt bombing).
func (s *Server) ask(ctx context.Context, d *decoupled, client *registration, user identity.User) error {
	hidden, err := s.requests.add(ctx, d.requestID(), user.ID, client.ID, d.CreatedAt.Add(d.Life), func(ctx context.Context, hidden string) {
		e := audit.Event{Action: "request.ask", Outcome: audit.Success, Actor: client.ID, UserID: user.ID, ClientID: client.ID, Detail: map[string]string{"scope": d.Form.Get("scope")}}
		if hidden != "" { // nobody was asked: it is nothing that a person should read
			e.Outcome, e.UserID, e.Detail["reason"] = audit.Failure, "", hidden
		}
		s.Audit.Record(ctx, e)
	})
	if err != nil {
		return err
	}
	if hidden == "" {
		d.UserID = user.ID
	}
	if err := s.saveDecoupled(ctx, d); err != nil {
		return err
	}
	if hidden != "" {
		s.Log.InfoContext(ctx, "request of an app shown to nobody", "client_id", client.ID, "reason", hidden)
		return nil
	}
	if s.asked != nil {
		s.asked(ctx, user, client.Client)
	}
	return nil
}

// openedRequest replaces the parameters by those of the signed request that is sent in their place (CIBA §7.1.1). Whether requests are
// signed is registered; one that is not what is registered is refused.
func (s *Server) openedRequest(ctx context.Context, client *registration, form url.Values) (url.Values, error) {
	signed := client.BackchannelRequestAlg != ""
	switch {
	case form.Has("request_uri"):
		return nil, newError("invalid_request", "A request_uri is not supported here: send the request itself.")
	case !form.Has("request") && (signed || client.rules().signed):
		return nil, newError("invalid_request", "The client must send its request as a signed JWT.")
	case !form.Has("request"):
		return form, nil
	case !signed:
		return nil, newError("invalid_request", "The client is not registered for signed requests (backchannel_authentication_request_signing_alg).")
	}
	for _, name := range slices.Concat(decoupledParameters, []string{
		"login_hint", "id_token_hint", "login_hint_token", "binding_message", "requested_expiry", "client_notification_token", "user_code",
	}) {
		if form.Has(name) { // nothing can be slipped in beside
			return nil, newError("invalid_request", "All parameters belong into the signed request.")
		}
	}
	o, err := parseRequestObject(form.Get("request"))
	if err != nil {
		return nil, err
	}
	if o.ClientID == "" { // its iss says it
		o.ClientID = client.ID
	}
	if o.ID == "" || len(o.ID) > 1024 || o.IssuedAt == nil {
		return nil, objectError("The signed request needs an iat and a jti.")
	}
	if at, ok := o.IssuedAt.time(); !ok || at.After(s.Now().Add(clockSkew)) {
		return nil, objectError("The signed request is from the future.")
	}
	if err := s.checkRequestObject(ctx, client, o, namesOf(client.BackchannelRequestAlg), true); err != nil {
		return nil, err
	}
	// Last, so that nobody else can use up the client's ids; in one step, so that of two copies one wins (replay).
	expires, _ := o.Expires.time()
	sum := sha256.Sum256([]byte(client.ID + "\x00" + o.ID))
	first, err := s.Cache.Add(ctx, "request-object:"+base64.RawURLEncoding.EncodeToString(sum[:]), expires.Add(clockSkew).Sub(s.Now())+time.Second)
	if err == nil && !first {
		err = objectError("The signed request was used before.")
	}
	if err != nil {
		return nil, err
	}
	return o.form()
}
