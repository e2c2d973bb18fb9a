package oauth

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// retryAfter is what a client is told to wait, in seconds, while a store is down.
const retryAfter = "5"

// rfcError is what a client learns of an error: a code that an RFC defines, and a sentence.
type rfcError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	status      int
}

// knownCodes are the codes that may leave the server, with their status at an endpoint that answers in JSON. fosite has
// more, of its own invention.
var knownCodes = map[string]int{
	"invalid_request": 400, "invalid_grant": 400, "unauthorized_client": 400, "unsupported_grant_type": 400, "invalid_scope": 400,
	"unsupported_response_type": 400, "access_denied": 400, "invalid_client": 401, "server_error": 500, "temporarily_unavailable": 503,
	"login_required": 400, "interaction_required": 400, "consent_required": 400, "account_selection_required": 400,
	"unmet_authentication_requirements": 400, "request_not_supported": 400, "request_uri_not_supported": 400, "invalid_request_object": 400, "registration_not_supported": 400,
	"authorization_pending": 400, "slow_down": 400, "expired_token": 400, // RFC 8628 §3.5
	"invalid_binding_message":       400, // CIBA §13
	"invalid_authorization_details": 400, // RFC 9396 §5
	"invalid_target":                400, // RFC 8707 §2
	"unsupported_token_type":        400, "invalid_request_uri": 400, "invalid_dpop_proof": 400, "use_dpop_nonce": 400, "invalid_token": 401,
	"invalid_client_metadata": 400, "invalid_redirect_uri": 400, // RFC 7591 §3.2.2
	"invalid_software_statement": 400, "unapproved_software_statement": 400,
}

// newError makes an error of a code that fosite has no value for.
func newError(code, hint string) error {
	return &fosite.RFC6749Error{ErrorField: code, DescriptionField: hint, CodeField: knownCodes[code]}
}

// describe turns any error into what the client may know. A store that does not answer is not the client's fault.
func describe(err error) rfcError {
	if errors.Is(err, db.ErrUnavailable) || errors.Is(err, cache.ErrUnavailable) {
		return rfcError{"temporarily_unavailable", "The server cannot answer at the moment. Try again in a few seconds.", http.StatusServiceUnavailable}
	}
	var unread *DocumentError
	switch { // what the stores say reaches here wrapped in fosite's server_error
	case errors.Is(err, errNoRecipient):
		return rfcError{"invalid_request", "The app publishes no key for the encryption that it is registered for.", http.StatusBadRequest}
	case errors.Is(err, errKeysNotThere):
		return rfcError{"temporarily_unavailable", "The keys at the app's jwks_uri cannot be fetched.", http.StatusServiceUnavailable}
	case errors.Is(err, errScopeWidened):
		return rfcError{"invalid_scope", "The scope exceeds what was granted.", http.StatusBadRequest}
	case errors.As(err, &unread):
		return rfcError{"invalid_client", legalDescription(unread.told()), http.StatusUnauthorized}
	case errors.Is(err, errTargetWidened):
		return rfcError{"invalid_target", "The resource exceeds what was granted.", http.StatusBadRequest}
	case errors.Is(err, errGrantOver):
		return rfcError{"invalid_grant", "The authorization has ended.", http.StatusBadRequest}
	}
	var e *fosite.RFC6749Error
	if !errors.As(err, &e) || e.ErrorField == "server_error" {
		return rfcError{"server_error", "The server met an unexpected condition.", http.StatusInternalServerError}
	}
	out := rfcError{Code: e.ErrorField, Description: legalDescription(e.GetDescription())}
	switch {
	case out.Code == "unsupported_response_mode":
		out.Code = "invalid_request"
	case knownCodes[out.Code] == 0:
		out.Code = "invalid_grant"
	}
	out.status = knownCodes[out.Code]
	return out
}

const maxDescription = 300

// legalDescription keeps the characters RFC 6749 §5.2 allows, so that nothing a client sent can be reflected into a log or a page.
func legalDescription(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < 0x20 || r > 0x7e || r == '\\':
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), maxDescription)]
}

// writeError answers a client's direct request with an error (RFC 6749 §5.2) and logs a cause that is the server's own.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := describe(err)
	if e.status >= http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "oauth request failed", "path", r.URL.Path, "err", err)
	} else {
		s.Log.InfoContext(r.Context(), "oauth request refused", "path", r.URL.Path, "error", e.Code, "description", e.Description)
	}
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	if e.Code == "use_dpop_nonce" {
		w.Header().Set("DPoP-Nonce", s.nonce(s.slot()))
	}
	if e.status == http.StatusUnauthorized { // RFC 6749 §5.2 wants it for clients that used the header; it does no harm for others
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.Site.Issuer()+`", charset="UTF-8"`)
	}
	writeJSON(w, e.status, e)
}

// writeJSON answers in JSON that no cache may keep (RFC 6749 §5.1).
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // every type written here can be encoded
		panic(err)
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Pragma"] = noCache
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
	noCache  = []string{"no-cache"}

	noReferrer = []string{"no-referrer"}
)
