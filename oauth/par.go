package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

// pushedPrefix begins the request_uri of a pushed request (RFC 9126 §2.2).
const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushedRequest is what the cache keeps of an authorization request that a client has pushed.
type pushedRequest struct {
	ClientID string     `json:"client_id"`
	Form     url.Values `json:"form"`
}

// push answers POST /par (RFC 9126).
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	s.offerNonce(w, r)
	uri, err := s.keepPushed(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusCreated, struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int    `json:"expires_in"`
	}{uri, int(s.PushedTTL / time.Second)})
	return nil
}

// keepPushed checks a request as /authorize would, so that what is wrong is told the client and not a person.
func (s *Server) keepPushed(r *http.Request) (uri string, err error) {
	form, err := bodyForm(r)
	if err != nil {
		return "", err
	}
	st := &state{}
	ctx := withState(r.Context(), st)
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return "", err
	}
	if form.Has("request_uri") { // RFC 9126 §2.1
		return "", newError("invalid_request", "A pushed request cannot hold a request_uri.")
	}
	form.Set("client_id", st.client.ID) // whom the credentials speak for, and nobody else
	if form, err = s.opened(ctx, form); err != nil {
		return "", err
	}
	jkt, err := s.proven(r, "/par", "")
	if err != nil {
		return "", err
	}
	if jkt != "" { // RFC 9449 §10.1
		if form.Has("dpop_jkt") && form.Get("dpop_jkt") != jkt {
			return "", proofError("The dpop_jkt is not the key of the DPoP proof.")
		}
		form.Set("dpop_jkt", jkt)
	}
	if form, err = keepRequest(form); err != nil {
		return "", err
	}
	if _, err := s.parseAuthorization(ctx, form); err != nil {
		return "", err
	}
	if st.client.Public() || st.client.SelfMade() { // anybody can pose as it, or make one like it
		if err := s.spendInteraction(ctx); err != nil {
			return "", err
		}
	}
	value, err := json.Marshal(pushedRequest{st.client.ID, form})
	if err != nil {
		return "", fmt.Errorf("encode pushed request: %w", err)
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	uri = pushedPrefix + base64.RawURLEncoding.EncodeToString(b)
	return uri, s.Cache.Put(ctx, pushedKey(uri), value, s.PushedTTL)
}

func pushedKey(uri string) string {
	sum := sha256.Sum256([]byte(uri))
	return "par:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

var errPushedOver = newError("invalid_request_uri", "The request_uri is not known, has expired, or was used.")

// pulled replaces the parameters of an authorization request by the pushed ones it names: all of them, so that nothing can be slipped in
// beside. key is "" for a request that was not pushed. Looking at it does not use it up: a person may reload the page.
func (s *Server) pulled(ctx context.Context, form url.Values) (all url.Values, key string, err error) {
	uri := form.Get("request_uri")
	if !strings.HasPrefix(uri, pushedPrefix) {
		return form, "", nil
	}
	key = pushedKey(uri)
	value, ok, err := s.Cache.Get(ctx, key)
	if err != nil {
		return nil, "", err
	}
	var p pushedRequest
	if ok {
		if err := json.Unmarshal(value, &p); err != nil {
			return nil, "", fmt.Errorf("decode pushed request: %w", err)
		}
	}
	if !ok || p.ClientID != form.Get("client_id") { // another client's is as good as none
		return nil, "", errPushedOver
	}
	return p.Form, key, nil
}

// spendPushed uses a pushed request up, once: of two tabs one gets the answer.
func (s *Server) spendPushed(ctx context.Context, in *interaction) error {
	if in.Pushed == "" {
		return nil
	}
	first, err := s.Cache.Add(ctx, in.Pushed+":used", s.PushedTTL+s.InteractionTTL)
	if err != nil {
		return err
	}
	if !first {
		return errPushedOver
	}
	return s.Cache.Delete(ctx, in.Pushed)
}

// spendInteraction bounds what strangers of one network can make the server remember.
func (s *Server) spendInteraction(ctx context.Context) error {
	network := web.Network(ctx)
	if network == "" {
		return nil
	}
	wait, err := s.Cache.Allow(ctx, "interactions:"+network, interactionsAtOnce, interactionsWindow)
	if err == nil && wait > 0 {
		err = newError("temporarily_unavailable", "Too many requests from this network.")
	}
	return err
}
