package oauth

import (
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var formField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// answered gives the parameters of an authorization answer in whatever way it travels.
func (b *browser) answered(t testing.TB, h *harness, v url.Values, mode string) url.Values {
	t.Helper()
	w := b.get(h, "/authorize?"+v.Encode())
	u := must(url.Parse(w.Header().Get("Location")))
	switch {
	case strings.HasPrefix(mode, "form_post"):
		params := url.Values{}
		for _, m := range formField.FindAllStringSubmatch(w.Body.String(), -1) {
			params.Add(m[1], html.UnescapeString(m[2]))
		}
		return params
	case w.Code != http.StatusSeeOther:
		t.Fatalf("%s: got %d %s", mode, w.Code, w.Body)
	case strings.HasPrefix(mode, "fragment"):
		return must(url.ParseQuery(u.Fragment))
	}
	return u.Query()
}

// signedAnswer reads an answer by JARM as an app would.
func (h *harness) signedAnswer(t testing.TB, c registered, params url.Values) map[string]any {
	t.Helper()
	if keys := slices.Collect(maps.Keys(params)); !slices.Equal(keys, []string{"response"}) {
		t.Fatalf("got %v, want response alone", params)
	}
	verified, err := h.Keys.Verify(params.Get("response"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(verified.Claims, &claims); err != nil {
		t.Fatal(err)
	}
	life := time.Unix(int64(claims["exp"].(float64)), 0).Sub(h.Now())
	if claims["iss"] != testIssuer || claims["aud"] != c.ID || life <= 0 || life > answerLife {
		t.Errorf("got %v", claims)
	}
	return claims
}

func TestSignedAnswer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, alg := range []string{"", "RS256", "EdDSA"} {
			c := h.client(t, func(c *Client) { c.AnswerAlg = alg })
			b.consent(t, c)
			for _, mode := range []string{"jwt", "query.jwt", "fragment.jwt", "form_post.jwt"} {
				params := b.answered(t, h, c.params("response_mode", mode), mode)
				answer := h.signedAnswer(t, c, params)
				header, _ := claimsOf(t, params.Get("response"))
				if want := map[string]string{"": "ES256"}[alg] + alg; header["alg"] != want || answer["state"] != "s" {
					t.Errorf("%s: got %v by %v, want %s", mode, answer, header["alg"], want)
				}
				if a := h.exchangeCode(t, c, answer["code"].(string)); a.status != http.StatusOK {
					t.Errorf("%s: exchange: %d %v", mode, a.status, a.body)
				}
			}
			// Pushed, and inside a request object, it is the same parameter.
			if answer := h.signedAnswer(t, c, b.authorize(t, h, byReference(c, h.pushForm(t, c, c.params("response_mode", "jwt"))))); answer["code"] == nil {
				t.Errorf("pushed: got %v", answer)
			}
		}
	})
}

func TestErrorsAreSignedWhereAnswersAre(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, signing("ES256"))
		b.consent(t, c)
		for want, edits := range map[string][]string{
			"invalid_scope": {"scope", "openid admin"}, "invalid_request": {"state", strings.Repeat("s", maxState+1)}, "unsupported_response_type": {"response_type", "token"},
			"invalid_request_object": {"request", "x"},
		} {
			for _, mode := range []string{"jwt", "fragment.jwt", "form_post.jwt"} {
				answer := h.signedAnswer(t, c, b.answered(t, h, c.params(append(edits, "response_mode", mode)...), mode))
				if answer["error"] != want || answer["code"] != nil {
					t.Errorf("%s: got %v, want %s", mode, answer, want)
				}
			}
		}
		if answer := h.signedAnswer(t, c, b.authorize(t, h, beside(c, h.object(t, c, map[string]any{"response_mode": "jwt", "scope": "admin"})))); answer["error"] != "invalid_scope" {
			t.Errorf("mode inside the object: got %v", answer)
		}
		// What is sent to nobody's address is not signed either: a page.
		if w := b.get(h, "/authorize?"+c.params("response_mode", "jwt", "redirect_uri", "https://evil.example.test/").Encode()); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("foreign redirect: got %d %s", w.Code, w.Header().Get("Location"))
		}
		for _, mode := range []string{"x.jwt", ".jwt", "jwt.jwt", "web_message"} {
			if q := b.authorize(t, h, c.params("response_mode", mode)); q.Get("error") != "invalid_request" {
				t.Errorf("%q: got %v", mode, q)
			}
		}
	})
}

func TestSignedAnswerIsNoOtherToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		token := b.authorize(t, h, c.params("response_mode", "jwt", "scope", "openid")).Get("response")
		if q := b.authorize(t, h, c.params("id_token_hint", token)); q.Get("error") != "invalid_request" {
			t.Errorf("as a hint: got %v", q)
		}
		if a := h.userinfoAnswer(t, token); a.status != http.StatusUnauthorized {
			t.Errorf("as an access token: got %d", a.status)
		}
		if out, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {token}}); err != nil || out.Refused != RefusedHint {
			t.Errorf("at logout: got %+v %v", out, err)
		}
	})
}

func TestSignedUserinfo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, alg := range signingAlgs {
			c := h.client(t, func(c *Client) { c.UserinfoAlg = alg })
			for _, scope := range []string{"openid", "openid email"} {
				access := b.tokens(t, c, "scope", scope).str("access_token")
				r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
				r.Header.Set("Authorization", "Bearer "+access)
				w := httptest.NewRecorder()
				h.handler.ServeHTTP(w, r)
				verified, err := h.Keys.Verify(w.Body.String())
				if err != nil || w.Header().Get("Content-Type") != "application/jwt" || w.Header().Get("Cache-Control") != "no-store" {
					t.Fatalf("%s: got %d %v %s: %v", alg, w.Code, w.Header(), w.Body, err)
				}
				var claims map[string]any
				if err := json.Unmarshal(verified.Claims, &claims); err != nil {
					t.Fatal(err)
				}
				header, _ := claimsOf(t, w.Body.String())
				want := map[string]any{"iss": testIssuer, "aud": c.ID, "sub": b.user.ID}
				if scope == "openid email" {
					want["email"], want["email_verified"] = b.user.Email, true
				}
				if !maps.Equal(claims, want) || header["alg"] != alg {
					t.Errorf("%s: got %v by %v, want %v", alg, claims, header["alg"], want)
				}
				// It has a sub and is signed by us, and yet it proves no sign-in.
				if q := b.authorize(t, h, c.params("id_token_hint", w.Body.String())); q.Get("error") != "invalid_request" {
					t.Errorf("as a hint: got %v", q)
				}
			}
		}
	})
}
