package oauth

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/keys"
)

// answerLife is how long a signed answer counts: JARM §2.1 recommends at most ten minutes.
const answerLife = 10 * time.Minute

var responseModes = []string{"query", "fragment", "form_post", "jwt", "query.jwt", "fragment.jwt", "form_post.jwt"}

// readMode reads how the answer shall travel. Errors travel in the same way.
func (a *authorization) readMode() error {
	a.answer, _ = responseTypeOf(a.form.Get("response_type")) // whether it may be asked for is seen later
	a.mode = fosite.ResponseModeQuery
	if a.answer.front() { // OAuth 2.0 Multiple Response Types §5
		a.mode = fosite.ResponseModeFragment
	}
	asked := a.form.Get("response_mode")
	if asked == "" {
		return nil
	}
	name, signed := strings.CutSuffix(asked, ".jwt")
	if asked == "jwt" { // the usual one of the response type (JARM §2.3.4)
		name, signed = string(a.mode), true
	}
	switch mode := fosite.ResponseModeType(name); mode {
	case fosite.ResponseModeQuery:
		a.signed = signed
		if a.answer.front() { // queries are kept in logs and told to other sites (token leak by Referer)
			return newError("invalid_request", "Tokens cannot come in the query: use response_mode fragment or form_post.")
		}
		return nil
	case fosite.ResponseModeFragment, fosite.ResponseModeFormPost:
		a.mode, a.signed = mode, signed
		return nil
	}
	return newError("invalid_request", "The response_mode is not supported: use query, fragment or form_post, or one of them with .jwt.")
}

// signAnswer makes one JWT of an authorization answer or error (JARM §2.1), and encrypts it if the client is registered for that. It has no sub, so that it cannot pass for an ID token.
func (s *Server) signAnswer(ctx context.Context, client *registration, params url.Values) (string, error) {
	claims := map[string]any{"aud": client.ID, "exp": s.Now().Add(answerLife).Unix()}
	for name, values := range params {
		claims[name] = values[0]
	}
	token, err := s.Keys.Sign(ctx, keys.Alg(cmp.Or(client.AnswerAlg, client.IDTokenAlg)), "JWT", claims)
	if err != nil {
		return "", err
	}
	return client.nested(ctx, s.keySets, client.AnswerKeyAlg, client.AnswerEnc, token)
}
