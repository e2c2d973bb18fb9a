package oauth

import "net/http"

// handler answers one route.
type handler func(w http.ResponseWriter, r *http.Request) error

// cors lets apps that run in a browser call an endpoint (Fetch standard). No cookie is read there, so any origin may:
// what counts is the token or the code in the request.
func cors(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header()["Access-Control-Allow-Origin"] = anyOrigin
		w.Header()["Access-Control-Expose-Headers"] = exposed
		return h(w, r)
	}
}

// preflight answers the browser's question whether it may ask.
func preflight(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP")
	h.Set("Access-Control-Max-Age", "3600")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var (
	anyOrigin = []string{"*"}
	exposed   = []string{"WWW-Authenticate, DPoP-Nonce"}
)
