package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Scopes of a receiver's own access token (CAEP Interoperability Profile §2.6.2). They are of use only to a client that an operator has made
// a receiver: scopes alone an app may come by otherwise.
const (
	scopeSSFManage = "ssf.manage"
	scopeSSFRead   = "ssf.read"
)

// ownScope reports whether a scope opens an endpoint of this server to a client itself. A token with one is for nobody else: an API that
// is sent it could come here with it (token redirect).
func ownScope(scope string) bool {
	return scope == scopeSSFManage || scope == scopeSSFRead || scope == scopeGlobalRevocation
}

// ssfRoutes are the transmitter's endpoints (SSF 1.0 §7, §8; RFC 8936).
func (s *Server) ssfRoutes() []web.Route {
	if s.Outbox == nil {
		return nil
	}
	manage, read := []string{scopeSSFManage}, []string{scopeSSFManage, scopeSSFRead}
	return []web.Route{
		{Pattern: "GET /.well-known/ssf-configuration", Handler: cors(s.ssfMetadata)},
		{Pattern: "OPTIONS /.well-known/ssf-configuration", Handler: preflight},
		{Pattern: "POST /ssf/stream", Handler: s.receiver(manage, s.createStream)},
		{Pattern: "GET /ssf/stream", Handler: s.receiver(read, s.readStream)},
		{Pattern: "PATCH /ssf/stream", Handler: s.receiver(manage, s.changeStream)},
		{Pattern: "PUT /ssf/stream", Handler: s.receiver(manage, s.changeStream)},
		{Pattern: "DELETE /ssf/stream", Handler: s.receiver(manage, s.deleteStream)},
		{Pattern: "GET /ssf/status", Handler: s.receiver(read, s.readStatus)},
		{Pattern: "POST /ssf/status", Handler: s.receiver(manage, s.changeStatus)},
		{Pattern: "POST /ssf/verify", Handler: s.receiver(manage, s.verifyStream)},
		{Pattern: "POST /ssf/poll/{stream}", Handler: s.receiver(read, s.poll)},
	}
}

// transmitter is the document of SSF 1.0 §7.1.
type transmitter struct {
	SpecVersion     string              `json:"spec_version"`
	Issuer          string              `json:"issuer"`
	JWKSURI         string              `json:"jwks_uri"`
	DeliveryMethods []string            `json:"delivery_methods_supported"`
	Configuration   string              `json:"configuration_endpoint"`
	Status          string              `json:"status_endpoint"`
	Verification    string              `json:"verification_endpoint"`
	Schemes         []map[string]string `json:"authorization_schemes"`
	DefaultSubjects string              `json:"default_subjects"` // everybody who has used the receiver's app
}

func (s *Server) ssfMetadata(w http.ResponseWriter, r *http.Request) error {
	body, err := json.Marshal(transmitter{
		SpecVersion: "1_0", Issuer: s.Site.Issuer(), JWKSURI: s.Site.URL("/jwks"), DeliveryMethods: []string{methodPush, methodPoll},
		Configuration: s.Site.URL("/ssf/stream"), Status: s.Site.URL("/ssf/status"), Verification: s.Site.URL("/ssf/verify"),
		Schemes: []map[string]string{{"spec_urn": "urn:ietf:rfc:6749"}}, DefaultSubjects: "ALL",
	})
	if err != nil {
		return err
	}
	serveDocument(w, r, newDocument(body), metadataMaxAge)
	return nil
}

// receiver lets in a client that an operator has made a receiver, by an access token of its own with one of the scopes.
func (s *Server) receiver(scopes []string, next func(w http.ResponseWriter, r *http.Request, client *registration) error) handler {
	return s.ownToken(scopes, func(c *registration) bool { return c.SecurityEvents }, next)
}

// ownToken lets in a client with an access token that speaks for itself and for no person, if it is allowed here.
func (s *Server) ownToken(scopes []string, allowed func(c *registration) bool, next func(w http.ResponseWriter, r *http.Request, client *registration) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		s.offerNonce(w, r)
		token, err := headerToken(r)
		if err != nil || token.value == "" {
			s.challenge(w, http.StatusUnauthorized, false, "", "")
			return nil
		}
		c, err := s.checkAccessToken(r.Context(), token.value)
		if err == nil && (c.Subject != c.ClientID || c.GrantID != "" || !slices.Contains(c.Audience, s.Site.Issuer())) {
			err = errTokenInactive
		}
		if errors.Is(err, errTokenInactive) {
			s.challenge(w, http.StatusUnauthorized, token.dpop, "invalid_token", "The access token is not valid.")
			return nil
		}
		if err == nil {
			err = s.checkPossession(r, strings.TrimPrefix(r.URL.Path, s.Site.Path("")), c, token)
		}
		if err != nil {
			s.refuseToken(w, r, token.dpop || c != nil && c.tokenType() == "DPoP", err)
			return nil
		}
		client, err := s.Clients.registration(r.Context(), c.ClientID)
		if err != nil {
			s.writeError(w, r, err)
			return nil
		}
		if !allowed(client) || !slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(c.scopes(), scope) }) {
			s.challenge(w, http.StatusForbidden, token.dpop, "insufficient_scope", "The client may not do this.")
			return nil
		}
		switch err := next(w, r, client); {
		case errors.Is(err, db.ErrNotFound):
			writeJSON(w, http.StatusNotFound, rfcError{Code: "not_found", Description: "There is no such stream."})
		case errors.Is(err, db.ErrConflict):
			writeJSON(w, http.StatusConflict, rfcError{Code: "conflict", Description: "The client has a stream already."})
		case err != nil:
			s.writeError(w, r, err)
		}
		return nil
	}
}

// readJSON reads a JSON object of at most the body's limit.
func readJSON(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return newError("invalid_request", "Send the body as application/json.")
	}
	d := json.NewDecoder(r.Body)
	if err := d.Decode(into); err != nil || d.More() {
		return newError("invalid_request", "The body is not the JSON object that belongs here.")
	}
	return nil
}

func (s *Server) createStream(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked configuration
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	var settings streamSettings
	authorization, _, err := settings.apply(asked, true)
	if err != nil {
		return err
	}
	made, err := s.Outbox.createStream(r.Context(), client.ID, settings, authorization)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, s.Outbox.configuration(made))
	return nil
}

func (s *Server) readStream(w http.ResponseWriter, r *http.Request, client *registration) error {
	if id := r.URL.Query().Get("stream_id"); id != "" {
		found, err := s.Outbox.stream(r.Context(), client.ID, id)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, s.Outbox.configuration(found))
		return nil
	}
	all := []configuration{}
	found, err := s.Outbox.streamOf(r.Context(), client.ID)
	if err == nil {
		all = append(all, s.Outbox.configuration(found))
	} else if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	writeJSON(w, http.StatusOK, all)
	return nil
}

// changeStream answers PATCH, which changes what is there, and PUT, which replaces all (SSF 1.0 §8.1.1.3, §8.1.1.4). What only the transmitter
// can say must be as it says, or be left out.
func (s *Server) changeStream(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked configuration
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	found, err := s.Outbox.stream(r.Context(), client.ID, asked.ID)
	if err != nil {
		return err
	}
	now := s.Outbox.configuration(found)
	if asked.Issuer != "" && asked.Issuer != now.Issuer || asked.Audience != nil && !slices.Equal(asked.Audience, now.Audience) ||
		asked.MinInterval != 0 && asked.MinInterval != now.MinInterval || asked.Supported != nil && !slices.Equal(asked.Supported, now.Supported) {
		return newError("invalid_request", "A value that only the transmitter can set differs.")
	}
	authorization, keep, err := found.Settings.apply(asked, r.Method == http.MethodPut)
	if err != nil {
		return err
	}
	if !keep {
		found.seal(s.Outbox, authorization)
	}
	if err := s.Outbox.updateStream(r.Context(), found); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.Outbox.configuration(found))
	return nil
}

func (s *Server) deleteStream(w http.ResponseWriter, r *http.Request, client *registration) error {
	if err := s.Outbox.deleteStream(r.Context(), client.ID, r.URL.Query().Get("stream_id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// streamStatus is SSF 1.0 §8.1.2.
type streamStatus struct {
	ID     string `json:"stream_id"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (s *Server) readStatus(w http.ResponseWriter, r *http.Request, client *registration) error {
	found, err := s.Outbox.stream(r.Context(), client.ID, r.URL.Query().Get("stream_id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, streamStatus{found.ID, found.Status, found.Reason})
	return nil
}

func (s *Server) changeStatus(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked streamStatus
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	found, err := s.Outbox.stream(r.Context(), client.ID, asked.ID)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{streamEnabled, streamPaused, streamDisabled}, asked.Status) {
		return newError("invalid_request", "The status must be enabled, paused or disabled.")
	}
	if len(asked.Reason) > maxStreamText || !printable(asked.Reason) {
		return newError("invalid_request", "The reason is not text of at most 200 bytes.")
	}
	found.Status, found.Reason = asked.Status, asked.Reason
	if err := s.Outbox.updateStream(r.Context(), found); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, streamStatus{found.ID, found.Status, found.Reason})
	return nil
}

func (s *Server) verifyStream(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	found, err := s.Outbox.stream(r.Context(), client.ID, asked.ID)
	if err != nil {
		return err
	}
	if len(asked.State) > maxState || !printable(asked.State) {
		return newError("invalid_request", "The state is too long.")
	}
	wait, err := s.Outbox.verify(r.Context(), found, asked.State)
	if err != nil {
		return err
	}
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
		w.WriteHeader(http.StatusTooManyRequests)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// pollRequest is RFC 8936 §2.2.
type pollRequest struct {
	Max         *int                 `json:"maxEvents"`
	Immediately bool                 `json:"returnImmediately"`
	Ack         []string             `json:"ack"`
	Errors      map[string]pollError `json:"setErrs"`
}

type pollError struct {
	Code string `json:"err"`
}

type pollAnswer struct {
	Sets map[string]string `json:"sets"`
	More bool              `json:"moreAvailable,omitempty"`
}

const (
	// pollPatience is how long an empty answer is held back; well below the server's write timeout.
	pollPatience = 15 * time.Second
	pollPause    = time.Second
	mostAcks     = 1000
)

// poll answers RFC 8936: it notes what the receiver has and gives it what it has not.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked pollRequest
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	ctx := r.Context()
	found, err := s.Outbox.stream(ctx, client.ID, r.PathValue("stream"))
	if err != nil {
		return err
	}
	if found.Settings.Method != methodPoll {
		return newError("invalid_request", "The stream is delivered by push.")
	}
	if len(asked.Ack)+len(asked.Errors) > mostAcks {
		return newError("invalid_request", "There are too many acknowledgements.")
	}
	for _, id := range asked.Ack {
		if err := s.Outbox.acknowledge(ctx, found, id, ""); err != nil {
			return err
		}
	}
	for id, e := range asked.Errors {
		if err := s.Outbox.acknowledge(ctx, found, id, "the receiver answered "+legalDescription(e.Code[:min(len(e.Code), 50)])); err != nil {
			return err
		}
	}
	most := mostPolled
	if asked.Max != nil {
		most = max(0, min(*asked.Max, mostPolled))
	}
	sets, more, err := s.awaitEvents(ctx, client.Client, found, most, asked.Immediately)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, pollAnswer{sets, more})
	return nil
}

// awaitEvents holds an empty answer back for a while, in case something happens (RFC 8936 §2.4, long polling).
func (s *Server) awaitEvents(ctx context.Context, client Client, found *stream, most int, immediately bool) (map[string]string, bool, error) {
	ticker := time.NewTicker(pollPause)
	defer ticker.Stop()
	for range int(pollPatience / pollPause) {
		sets, more, err := s.Outbox.polled(ctx, client, found, most)
		if err != nil || len(sets) > 0 || most == 0 || immediately {
			return sets, more, err
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-ticker.C:
		}
	}
	return map[string]string{}, false, nil
}
