package oauth

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// wantedACRs are the authentication context classes one of which the app asks for, most wanted first, and whether nothing else
// is of use to it: the acr claim (OpenID Connect Core §5.5.1.1), else acr_values. A class that is not ours is left out, unless
// it is essential and there is no other.
func (a *authorization) wantedACRs() (known []string, unknown bool) {
	values, essential := a.claims.wanted("acr")
	if len(values) == 0 {
		values = strings.Fields(a.form.Get("acr_values"))
	}
	for _, v := range values {
		if slices.Contains(identity.ACRs(), v) {
			known = append(known, v)
		}
	}
	return known, essential && len(values) > 0 && len(known) == 0
}

// demandedACR is the class that a session must have reached. What acr_values name is demanded like an essential claim: an API
// that refused a token for its class must not be sent the like again (RFC 9470 §5). Whatever the app asks for, it is not less than
// the policy says; "" demands nothing.
func (s *Server) demandedACR(req *authorization) (string, error) {
	known, unknown := req.wantedACRs()
	if unknown {
		return "", newError("unmet_authentication_requirements", "The person cannot be authenticated in the way the app demands.")
	}
	return stronger(s.leastACR(req.client.Client), weakest(known)), nil
}

// leastACR is what the policy of the server and that of the client agree to be enough.
func (s *Server) leastACR(c Client) string {
	return stronger(s.SignInPolicy, weakest(c.DefaultACRValues))
}

func weakest(acrs []string) string {
	for _, acr := range identity.ACRs() {
		if slices.Contains(acrs, acr) {
			return acr
		}
	}
	return ""
}

func stronger(a, b string) string {
	if identity.Reaches(a, b) {
		return a
	}
	return b
}

// reportedACR is the class that tokens name. The app gets one that it asked for, since it compares strings, though a session may have
// reached more; never one that was not reached.
func reportedACR(reached string, asked []string) string {
	if len(asked) == 0 || slices.Contains(asked, reached) {
		return reached
	}
	named := ""
	for _, acr := range identity.ACRs() {
		if slices.Contains(asked, acr) && identity.Reaches(reached, acr) {
			named = acr
		}
	}
	if named == "" {
		return reached
	}
	return named
}

// missingProof says which class the session lacks, nil if none.
func (s *Server) missingProof(req *authorization, sess *identity.Session) (*need, error) {
	demanded, err := s.demandedACR(req)
	if err != nil || identity.Reaches(sess.ACR(), demanded) {
		return nil, err
	}
	n := &need{path: "/step-up", code: "unmet_authentication_requirements", reason: "mfa"}
	if demanded == identity.ACRPhishingResistant {
		if n.reason = "phr"; !s.People.PasskeysPossible() {
			return nil, newError("unmet_authentication_requirements", "There are no passkeys at this server.")
		}
	}
	return n, nil
}

// CannotProve records that the person does not want to, or cannot, prove what the app demands. The app hears of it when they resume.
func (s *Server) CannotProve(ctx context.Context, id string) error {
	in, _, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	in.Unproven = true
	return s.saveInteraction(ctx, in)
}

// answerUnproven ends a request that CannotProve was called for.
func (s *Server) answerUnproven(w http.ResponseWriter, r *http.Request, req *authorization) error {
	if err := s.endInteraction(r.Context(), req.interaction); err != nil {
		return s.refuse(w, r, req, err)
	}
	return s.refuse(w, r, req, newError("unmet_authentication_requirements", "The person did not authenticate in the way that is demanded."))
}

// checkReached looks, before tokens are made for a person, whether the policy is stricter by now than what the person has proven.
func (s *Server) checkReached(client *registration, sess *session) error {
	// Of the first release there is the reported class alone. Where nobody signed in here, an issuer's word is one factor, and no more.
	reached := cmp.Or(sess.Reached, sess.ACR, identity.ACRPassword)
	if sess.Subject != "" && !identity.Reaches(reached, s.leastACR(client.Client)) {
		return newError("invalid_grant", "The person must sign in again, in a stronger way.")
	}
	return nil
}
