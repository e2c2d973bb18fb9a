package oauth

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Bounds on what an app may send, in bytes.
const (
	maxState = 2048
	maxNonce = 2048
)

// authorization is a checked authorization request (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1).
type authorization struct {
	form      url.Values
	client    *registration
	redirect  string       // registered, with the requested port on loopback; "" until it is known to be good
	answer    responseType // what the answer holds
	mode      fosite.ResponseModeType
	signed    bool // the answer is a JWT (JARM)
	state     string
	scopes    []string
	resources resources // asked for by name (RFC 8707)
	details   details   // asked for (RFC 9396)
	prompt    []string
	maxAge    time.Duration // -1: not asked for
	claims    *claims
	hint      string        // subject of the id_token_hint
	hinted    *registration // the client that the hint was made for

	decoupled *decoupled // what asked in place of an app with a redirect

	interaction *interaction // what the person has done for this request so far
}

func (a *authorization) clientID() string {
	if a == nil || a.client == nil {
		return ""
	}
	return a.client.ID
}

func (a *authorization) prompted(what string) bool { return slices.Contains(a.prompt, what) }

// consentScopes are those the person is asked for.
func (a *authorization) consentScopes() []string { return union(a.scopes, a.claims.impliedScopes()) }

// authorize answers GET and POST /authorize, which are equal (OpenID Connect Core §3.1.2.1).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	read := queryForm
	if r.Method == http.MethodPost {
		read = postedForm
	}
	sent, err := read(r)
	if err != nil {
		return s.refuse(w, r, nil, err)
	}
	form, pushed, err := s.pulled(r.Context(), sent)
	if err == nil && pushed == "" {
		if form, err = s.opened(r.Context(), sent); err != nil {
			return s.refuse(w, r, s.asker(r.Context(), sent), err)
		}
	}
	if err == nil {
		form, err = keepRequest(form)
	}
	if err != nil {
		return s.refuse(w, r, nil, err)
	}
	req, err := s.parseAuthorization(r.Context(), form)
	if err == nil && pushed == "" && (s.RequirePAR || req.client.pushes()) {
		err = newError("invalid_request", "The request must be pushed first (RFC 9126).")
	}
	if err != nil {
		return s.refuse(w, r, req, err)
	}
	req.interaction = s.newInteraction(req)
	req.interaction.Pushed = pushed
	if r.Method == http.MethodPost {
		// An app's form is a cross-site post, to which browsers attach no SameSite cookie: come back by GET.
		if err := s.saveInteraction(r.Context(), req.interaction); err != nil {
			return s.refuse(w, r, req, err)
		}
		http.Redirect(w, r, s.ResumePath(req.interaction.ID), http.StatusSeeOther)
		return nil
	}
	return s.advance(w, r, req)
}

// resume answers GET /authorize/resume: a person comes back from a page.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) error {
	in, err := s.loadInteraction(r.Context(), r.URL.Query().Get("i"))
	var over *InteractionOver
	if errors.As(err, &over) {
		s.errorPage(w, r, ErrorPage{
			Status: http.StatusBadRequest, Code: "invalid_request", Key: "error.oauth.interaction_over",
			ClientName: over.Client.Name, ClientURI: over.Client.ClientURI,
		})
		return nil
	}
	if err != nil {
		return s.refuse(w, r, nil, err)
	}
	req, err := s.parseAuthorization(r.Context(), in.Form)
	if err != nil {
		return s.refuse(w, r, req, err)
	}
	req.interaction = in
	if req.decoupled != nil && (in.Denied || in.Unproven) {
		sess, err := s.session(r)
		if err != nil {
			return s.refuse(w, r, req, err)
		}
		return s.answerDecoupled(w, r, req, sess, s.Now(), true)
	}
	if in.Denied {
		if err := s.spendPushed(r.Context(), in); err != nil {
			return s.refuse(w, r, nil, err)
		}
		if err := s.endInteraction(r.Context(), in); err != nil {
			return s.refuse(w, r, req, err)
		}
		return s.refuse(w, r, req, newError("access_denied", "The person did not allow it."))
	}
	if in.Unproven {
		return s.answerUnproven(w, r, req)
	}
	return s.advance(w, r, req)
}

// parseAuthorization checks everything about a request that does not depend on the person. With an error it returns
// what is known of the request; redirect is set only if the app may be told.
func (s *Server) parseAuthorization(ctx context.Context, form url.Values) (*authorization, error) {
	if form.Has(decoupledParameter) {
		return s.parseDecoupled(ctx, form)
	}
	req := &authorization{form: form, maxAge: -1, mode: fosite.ResponseModeQuery, state: form.Get("state")}
	client, err := s.client(ctx, form.Get("client_id"))
	var unread *DocumentError
	switch {
	case errors.As(err, &unread):
		return nil, unread
	case errors.Is(err, db.ErrNotFound):
		return nil, newError("invalid_client", "The app is not known here.")
	case err != nil:
		return nil, err
	}
	if req.client, err = s.widened(ctx, client); err != nil {
		return nil, err
	}
	if client.Disabled {
		return req, newError("unauthorized_client", "The app is disabled.")
	}
	redirect := form.Get("redirect_uri")
	switch {
	case redirect == "" && client.rules().redirect:
		return req, newError("invalid_request", "The redirect_uri is missing.")
	case redirect == "" && len(client.RedirectURIs) == 1 && !slices.Contains(strings.Fields(form.Get("scope")), scopeOpenID):
		redirect = client.RedirectURIs[0] // RFC 6749 §3.1.2.3
	case !matchRedirect(client.RedirectURIs, redirect) && !matchLocalhost(client, redirect):
		return req, newError("invalid_request", "The redirect URI is not registered for this app.")
	}
	req.redirect = redirect
	if err := req.readMode(); err != nil {
		return req, err
	}
	if len(req.state) > maxState {
		req.state = ""
		return req, newError("invalid_request", "The state is too long.")
	}
	return req, s.parseParameters(ctx, req)
}

// parseParameters checks what may be reported to the app by redirect.
func (s *Server) parseParameters(ctx context.Context, req *authorization) error {
	form, client := req.form, req.client
	if form.Has("registration") {
		return newError("registration_not_supported", "Registration in the request is not supported.")
	}
	if err := s.checkResponseType(req); err != nil {
		return err
	}
	if client.SelfMade() {
		if err := narrowScope(form, client); err != nil {
			return err
		}
	}
	for _, scope := range strings.Fields(form.Get("scope")) {
		if !slices.Contains(client.Scopes, scope) {
			return newError("invalid_scope", "The app is not registered for a scope it asked for.")
		}
		if !slices.Contains(req.scopes, scope) && (req.answer.code || scope != scopeOfflineAccess) { // refresh tokens come for codes only (OpenID Connect Core §11)
			req.scopes = append(req.scopes, scope)
		}
	}
	var err error
	if req.resources, err = s.resources(ctx, client, form["resource"]); err != nil {
		return err
	}
	if client.rules().resource && len(req.resources) == 0 && slices.ContainsFunc(req.scopes, func(scope string) bool { return !personScope(scope) }) {
		return newError("invalid_target", "The resource is missing: this app must name the API it asks for.") // a token for all APIs would serve each of them (confused deputy)
	}
	var reach [][]string
	if req.details, reach, err = s.readDetails(ctx, client, form.Get("authorization_details")); err == nil {
		err = checkTargets(req.resources, reach)
	}
	if err != nil {
		return err
	}
	if err := s.parseProof(req); err != nil {
		return err
	}
	return s.parseOpenID(ctx, req)
}

// parseProof checks PKCE: S256 only, and a challenge unless the client is excused (RFC 7636, RFC 9700 §2.1.1).
func (s *Server) parseProof(req *authorization) error {
	challenge, method := req.form.Get("code_challenge"), req.form.Get("code_challenge_method")
	switch {
	case len(req.form.Get("nonce")) > maxNonce:
		return newError("invalid_request", "The nonce is too long.")
	case challenge == "" && method != "":
		return newError("invalid_request", "The code_challenge is missing.")
	case challenge == "" && req.answer.code && !req.client.pkceExcused(req.form.Get("nonce")):
		return newError("invalid_request", "The code_challenge is missing: this app must use PKCE with the method S256.")
	case challenge != "" && method != "S256":
		return newError("invalid_request", "The code_challenge_method must be S256.")
	case req.form.Has("dpop_jkt") && !validChallenge(req.form.Get("dpop_jkt")): // the same alphabet and length
		return newError("invalid_request", "The dpop_jkt is not a base64url SHA-256 thumbprint.")
	case challenge != "" && !validChallenge(challenge):
		return newError("invalid_request", "The code_challenge is not a base64url SHA-256 hash.")
	}
	return nil
}

// validChallenge wants the 43 characters of a SHA-256 in base64url (RFC 7636 §4.2).
func validChallenge(c string) bool {
	return len(c) == 43 && !strings.ContainsFunc(c, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// parseOpenID reads the parameters of OpenID Connect Core §3.1.2.1.
func (s *Server) parseOpenID(ctx context.Context, req *authorization) error {
	for _, p := range strings.Fields(req.form.Get("prompt")) {
		switch p {
		case "none", "login", "consent", "select_account":
			req.prompt = append(req.prompt, p)
		default:
			return newError("invalid_request", "The prompt is not known.")
		}
	}
	if req.prompted("none") && len(req.prompt) > 1 {
		return newError("invalid_request", "The prompt none cannot stand beside another.")
	}
	req.maxAge = req.client.maxAge()
	if raw := req.form.Get("max_age"); raw != "" {
		seconds, err := strconv.ParseUint(raw, 10, 31)
		if err != nil {
			return newError("invalid_request", "The max_age is not a number of seconds.")
		}
		req.maxAge = time.Duration(seconds) * time.Second
	}
	var err error
	if req.claims, err = parseClaims(req.form.Get("claims")); err != nil {
		return newError("invalid_request", "The claims parameter is not valid.")
	}
	for _, scope := range req.claims.impliedScopes() {
		if !slices.Contains(req.client.Scopes, scope) {
			return newError("invalid_scope", "The app is not registered for the scope of a claim it asked for.")
		}
	}
	if raw := req.form.Get("id_token_hint"); raw != "" {
		h, err := s.parseHint(ctx, raw)
		if err != nil {
			return newError("invalid_request", "The id_token_hint is not an ID token of this server.")
		}
		req.hint = h.Subject
		if req.hinted, err = s.audienceOf(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// need is something that only the person can give.
type need struct {
	path   string // page that asks for it
	code   string // error if nobody may be asked (prompt=none)
	reason string // for the page: see Interaction.Reason
}

// missing decides what comes next. It is the only place that does: the pages prove one thing each and come back here.
func (s *Server) missing(ctx context.Context, req *authorization, sess *identity.Session) (*need, error) {
	if sess == nil {
		if req.prompted("select_account") {
			return &need{path: "/login", code: "account_selection_required"}, nil
		}
		return &need{path: "/login", code: "login_required"}, nil
	}
	in := req.interaction
	fresh := !sess.Undated && !sess.AuthTime.Before(in.CreatedAt) // signed in for this very request
	switch {
	case req.hint != "" && req.hint != req.hinted.subject(sess.UserID), !wantedSubject(req, sess.UserID), req.decoupled != nil && !req.decoupled.mine(sess):
		return &need{path: "/login", code: "login_required", reason: "account"}, nil
	case req.prompted("login") && !fresh,
		// By now, not by the time of the request: a request can wait for an hour in a tab that was left open.
		req.maxAge >= 0 && !fresh && (sess.Undated || s.Now().Sub(sess.AuthTime) > req.maxAge),
		req.maxAge == 0 && !fresh:
		return &need{path: "/login", code: "login_required", reason: "reauth"}, nil
	case req.prompted("select_account") && !fresh && in.SelectedBy != sess.ID:
		return &need{path: "/select", code: "account_selection_required"}, nil
	}
	if ok, err := s.mayUse(ctx, req.client.Client, sess.UserID); err != nil {
		return nil, err
	} else if !ok {
		return &need{path: "/no-access", code: "access_denied"}, nil
	}
	if sess.MustChangePassword {
		return &need{path: "/password/new", code: "interaction_required"}, nil
	}
	if s.RequireVerifiedEmail && !sess.EmailVerified {
		return &need{path: "/verify", code: "interaction_required"}, nil
	}
	if n, err := s.missingProof(req, sess); n != nil || err != nil {
		return n, err
	}
	if list, err := s.People.MissingAttributes(ctx, sess.UserID); err != nil {
		return nil, err
	} else if len(list) > 0 { // before consent: the app may be about to learn it
		return &need{path: "/attributes", code: "interaction_required"}, nil
	}
	return s.missingConsent(ctx, req, sess)
}

// wantedSubject reports whether the claims parameter allows this person.
func wantedSubject(req *authorization, userID string) bool {
	values, _ := req.claims.wanted("sub")
	return len(values) == 0 || slices.Contains(values, req.client.subject(userID))
}

func (s *Server) missingConsent(ctx context.Context, req *authorization, sess *identity.Session) (*need, error) {
	ask := &need{path: "/consent", code: "consent_required"}
	switch {
	case req.interaction.ConsentBy == sess.UserID:
		return nil, nil //nolint:nilnil // nothing is missing
	case req.client.stranger(), req.prompted("consent"), len(req.details) > 0, req.decoupled != nil: // who sits at the device is told by nothing but the person (RFC 8628 §5.4)
		return ask, nil
	case req.client.FirstParty && !impersonable(req):
		return nil, nil //nolint:nilnil // nothing is missing
	case impersonable(req):
		return ask, nil
	}
	covered, err := s.Consents.Covers(ctx, sess.UserID, req.client.ID, req.consentItems())
	if err != nil || covered {
		return nil, err
	}
	return ask, nil
}

// impersonable reports whether any program on the person's device could pose as the app: a client without a secret whose
// redirect is not an https address. The person is then asked each time (RFC 8252 §8.6).
func impersonable(req *authorization) bool {
	return req.client.Public() && !strings.HasPrefix(req.redirect, "https://")
}

// advance sends the person to the page that asks for what is missing, or the app its code.
func (s *Server) advance(w http.ResponseWriter, r *http.Request, req *authorization) error {
	ctx := r.Context()
	began := s.Now()
	sess, err := s.session(r)
	if err != nil {
		return s.refuse(w, r, req, err)
	}
	needed, err := s.missing(ctx, req, sess)
	switch {
	case err != nil:
		return s.refuse(w, r, req, err)
	case needed == nil && req.decoupled != nil:
		return s.answerDecoupled(w, r, req, sess, began, false)
	case needed == nil:
		return s.issue(w, r, req, sess, began)
	case req.prompted("none"):
		return s.refuse(w, r, req, newError(needed.code, "The person would have to act, but the prompt was none."))
	}
	req.interaction.Reason = needed.reason
	if err := s.saveInteraction(ctx, req.interaction); err != nil {
		return s.refuse(w, r, req, err)
	}
	w.Header()["Cache-Control"] = noStore
	http.Redirect(w, r, s.Site.Path(needed.path+"?i="+req.interaction.ID), http.StatusSeeOther)
	return nil
}

// session returns the living session of the browser, or nil.
func (s *Server) session(r *http.Request) (*identity.Session, error) {
	token := s.Site.SessionToken(r)
	if token == "" {
		return nil, nil //nolint:nilnil // signed out
	}
	sess, err := s.People.Session(r.Context(), token)
	if gone(err) {
		return nil, nil //nolint:nilnil // signed out
	}
	return &sess, err
}

// issue sends the app its answer.
func (s *Server) issue(w http.ResponseWriter, r *http.Request, req *authorization, sess *identity.Session, began time.Time) error {
	if err := s.spendPushed(r.Context(), req.interaction); err != nil {
		return s.refuse(w, r, nil, err)
	}
	params, err := s.answer(r, req, sess, began)
	if err != nil {
		return s.refuse(w, r, req, err)
	}
	if err := s.endInteraction(r.Context(), req.interaction); err != nil {
		return s.refuse(w, r, req, err)
	}
	s.respond(w, r, req, params)
	return nil
}

// narrowScope leaves what an app may not have out of what it asks for (RFC 6749 §3.3), if it has registered itself: such apps ask for all
// that a resource has. The token response tells them what they got.
func narrowScope(form url.Values, client *registration) error {
	asked := strings.Fields(form.Get("scope"))
	may := slices.DeleteFunc(slices.Clone(asked), func(scope string) bool { return !slices.Contains(client.Scopes, scope) })
	switch {
	case len(asked) == len(may):
		return nil
	case len(may) == 0:
		return newError("invalid_scope", "The app may have none of the scopes it asked for.")
	}
	form.Set("scope", join(may))
	return nil
}

// fositeRequest shows fosite the checked parameters and nothing else. How the answer travels is not its business.
func fositeRequest(r *http.Request, form url.Values) *http.Request {
	form = maps.Clone(form)
	form.Del("response_mode")
	form.Set("response_type", "code") // beside which fosite makes nothing
	form.Del("id_token_hint")         // may hold a name that only its client knows: see missing
	return &http.Request{Method: http.MethodPost, URL: r.URL, Header: http.Header{}, Form: form, PostForm: form}
}
