package oauth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/keys"
)

// token answers POST /token (RFC 6749 §3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	s.offerNonce(w, r)
	answer, err := s.exchange(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// exchange runs one token request: what every grant type must pass stands here, so that no new one can forget it.
func (s *Server) exchange(r *http.Request) (map[string]any, error) {
	form, err := bodyForm(r)
	if err != nil {
		return nil, err
	}
	st := &state{scopes: strings.Fields(form.Get("scope")), resources: form["resource"]}
	ctx := withState(r.Context(), st)
	switch grant := form.Get("grant_type"); {
	case grant == "":
		return nil, newError("invalid_request", "The grant_type is missing.")
	case !slices.Contains(grantTypes, grant):
		return nil, newError("unsupported_grant_type", "The grant_type is not supported.")
	}
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return nil, err
	}
	if st.client, err = s.widened(ctx, st.client); err != nil {
		return nil, err
	}
	if !slices.Contains(st.client.GrantTypes, form.Get("grant_type")) {
		return nil, newError("unauthorized_client", "The client is not registered for this grant_type.")
	}
	for _, scope := range st.scopes {
		if !slices.Contains(st.client.Scopes, scope) {
			return nil, newError("invalid_scope", "The client is not registered for a scope it asked for.")
		}
	}
	// Before a code is claimed or a refresh token rotated: a client that is told a nonce comes again with both.
	if st.confirmation, err = s.possession(r, st.client); err != nil {
		return nil, err
	}
	ar, err := s.provider.NewAccessRequest(ctx, fositeTokenRequest(r, form), &session{})
	if err != nil {
		return nil, err
	}
	if err := s.checkGrant(ctx, ar.(*fosite.AccessRequest)); err != nil {
		return nil, err
	}
	resp, err := s.provider.NewAccessResponse(ctx, ar)
	if err != nil {
		return nil, err
	}
	if err := s.keep(ctx, st.client, ar.GetSession().(*session)); err != nil {
		return nil, err
	}
	if err := s.checkIssued(ctx); err != nil {
		return nil, err
	}
	answer := resp.ToMap()
	answer["token_type"] = st.confirmation.tokenType()
	if len(st.details) > 0 {
		answer["authorization_details"] = st.details
	}
	if st.target != nil {
		answer["scope"] = join(st.target.scopes)
	}
	if st.life > 0 || st.target != nil {
		answer["expires_in"] = int64(st.life / time.Second)
	}
	return answer, nil
}

// fositeTokenRequest shows fosite the checked parameters; the client has been authenticated.
func fositeTokenRequest(r *http.Request, form map[string][]string) *http.Request {
	return &http.Request{Method: http.MethodPost, URL: r.URL, Header: http.Header{}, Form: form, PostForm: form}
}

// checkGrant is the seam between what was asked and what is issued: the session is there, nothing is made yet.
func (s *Server) checkGrant(ctx context.Context, ar *fosite.AccessRequest) error {
	client, sess := ar.Client.(*registration), ar.Session.(*session)
	if err := s.checkReached(client, sess); err != nil {
		return err
	}
	if err := s.checkProvider(ctx, sess); err != nil {
		return err
	}
	if err := checkRegistered(ctx, client, sess); err != nil {
		return err
	}
	sess.sha512 = keys.Alg(client.IDTokenAlg) == keys.EdDSA
	if st := requestState(ctx); st.code != nil && st.code.JKT != "" && (st.confirmation == nil || st.confirmation.JKT != st.code.JKT) {
		return fosite.ErrInvalidGrant.WithHint("The code is tied to another key (dpop_jkt).") // RFC 9449 §10
	}
	switch {
	case ar.GrantTypes.ExactOne(GrantClientCredentials):
		scopes := ar.RequestedScope
		if len(scopes) == 0 { // RFC 6749 §3.3: the default is all that the client is registered for
			scopes = slices.DeleteFunc(slices.Clone(client.Scopes), func(scope string) bool {
				return personScope(scope) || len(client.Audiences) > 0 && ownScope(scope) // those make a token that is of no use to an API
			})
		}
		for _, scope := range scopes {
			if personScope(scope) { // they speak of a person, and there is none
				return newError("invalid_scope", "The scope "+scope+" needs a person.")
			}
		}
		ar.GrantedScope = scopes
	case ar.GrantTypes.ExactOne(GrantRefreshToken):
		if asked := strings.Fields(ar.Form.Get("scope")); len(asked) > 0 { // the new access token gets less, the grant keeps all
			ar.GrantedScope = slices.DeleteFunc(slices.Clone(ar.GrantedScope), func(scope string) bool { return !slices.Contains(asked, scope) })
		}
	}
	if err := s.checkMayUse(ctx, client.Client, sess.Subject); err != nil {
		return err
	}
	granted := ar.GrantedScope
	if code := requestState(ctx).code; code != nil { // fosite grants them with the answer
		granted = code.Scopes
	}
	if err := s.aim(ctx, client, sess, granted); err != nil {
		return err
	}
	var apis []string
	if t := requestState(ctx).target; t != nil {
		apis = t.resources.identifiers()
	} else {
		apis = s.audience(client, sess, granted)
	}
	return s.narrowDetails(ctx, client, sess, ar.Form.Get("authorization_details"), apis)
}

// checkProvider looks whether the provider by which the person came is still one. Sessions end with it by themselves; what a device or an
// app got is not theirs, and may be older than any that is left.
func (s *Server) checkProvider(ctx context.Context, sess *session) error {
	if sess.Provider == "" {
		return nil
	}
	over, err := s.People.ProviderOver(ctx, sess.Provider)
	if err != nil || !over {
		return err
	}
	if st := requestState(ctx); st.grant != nil { // it does not come back with the provider
		if err := s.Grants.revoke(ctx, st.grant.ID); err != nil {
			return err
		}
	}
	return errGrantOver
}

// checkRegistered refuses what the client was granted and could not even ask for any more (state flipped between issue and use). fosite
// does it for the scopes of a refresh.
func checkRegistered(ctx context.Context, client *registration, sess *session) error {
	granted := sess.Claims.impliedScopes()
	if code := requestState(ctx).code; code != nil {
		granted = append(granted, code.Scopes...)
	}
	for _, scope := range granted {
		if !slices.Contains(client.Scopes, scope) {
			return newError("invalid_grant", "The client is not registered any more for a scope that it was granted.")
		}
	}
	return nil
}

// checkIssued looks, after a code was exchanged, whether the session, the person or the consent has ended since the code
// was made. It comes last because whoever ends them marks first and then looks for grants: one of both sees the other.
func (s *Server) checkIssued(ctx context.Context) error {
	st := requestState(ctx)
	if st.code == nil {
		return s.checkCut(ctx, st.grant)
	}
	sess := st.code.Session
	marks := []string{markSession(sess.SessionID), markUser(sess.Subject), markApp(sess.Subject, st.client.ID)}
	if sess.SessionID == sess.GrantID { // of a device, see decoupledCode
		marks = append(marks, markDevices(sess.Subject))
	}
	revoked, err := s.Revocations.revoked(ctx, grantedAt(sess.GrantID), marks...)
	if err != nil {
		return err
	}
	if !revoked {
		return nil
	}
	if st.grant != nil {
		if err := s.Grants.revoke(ctx, st.grant.ID); err != nil {
			return err
		}
	}
	return errGrantOver
}

// checkCut looks, after a token was renewed, exchanged or given for an assertion, whether the person paused or shrank the grant meanwhile.
func (s *Server) checkCut(ctx context.Context, g *grant) error {
	if g == nil {
		return nil
	}
	cut, err := s.Revocations.revoked(ctx, g.UsedAt, markCut(g.ID))
	if err == nil && cut {
		err = errGrantOver
	}
	return err
}
