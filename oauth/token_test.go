package oauth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		b.consent(t, c)
		q := b.authorize(t, h, c.params())
		if q.Get("iss") != testIssuer || q.Get("state") != "s" || q.Has("scope") {
			t.Errorf("answer %v: want iss and state, no scope", q)
		}
		a := h.exchangeCode(t, c, q.Get("code"))
		if a.status != http.StatusOK {
			t.Fatalf("exchange: %d %v", a.status, a.body)
		}
		if got := a.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q, want no-store", got)
		}
		if a.str("token_type") != "Bearer" || a.body["expires_in"].(float64) < 500 || a.str("refresh_token") == "" {
			t.Errorf("answer %v", a.body)
		}
		head, access := claimsOf(t, a.str("access_token"))
		if head["typ"] != "at+jwt" || head["alg"] != "ES256" || access["sub"] != b.user.ID || access["client_id"] != c.ID || access["iss"] != testIssuer || access["aud"] != testIssuer {
			t.Errorf("access token %v %v", head, access)
		}
		head, id := claimsOf(t, a.str("id_token"))
		if head["typ"] != "JWT" || id["nonce"] != "n-0S6_WzA2Mj" || id["aud"] != c.ID || id["sub"] != b.user.ID || id["sid"] != b.session.ID || id["at_hash"] == nil || id["acr"] != "urn:gatehouse:pwd" {
			t.Errorf("id token %v %v", head, id)
		}
		for _, leaked := range []string{"email", "name", "rat", "c_hash"} {
			if id[leaked] != nil {
				t.Errorf("id token holds %s", leaked)
			}
		}
		info := h.userinfoAnswer(t, a.str("access_token"))
		if info.status != http.StatusOK || info.body["email"] != b.user.Email || info.body["email_verified"] != true || info.body["name"] != nil {
			t.Errorf("userinfo %d %v: want the e-mail and no name", info.status, info.body)
		}
		r := h.refreshToken(t, c, a.str("refresh_token"))
		if r.status != http.StatusOK || r.str("refresh_token") == a.str("refresh_token") || r.str("id_token") == "" {
			t.Fatalf("refresh: %d %v", r.status, r.body)
		}
		_, again := claimsOf(t, r.str("id_token"))
		if again["sub"] != id["sub"] || again["auth_time"] != id["auth_time"] || again["aud"] != id["aud"] || again["nonce"] != nil {
			t.Errorf("refreshed id token %v, want the same person and login without nonce", again)
		}
	})
}

func TestNoRefreshTokenWithoutOfflineAccess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		a := h.person(t).tokens(t, h.client(t, nil), "scope", "openid")
		if a.str("refresh_token") != "" {
			t.Error("got a refresh token")
		}
	})
}

func TestAlgorithmsOfIDTokens(t *testing.T) {
	t.Parallel()
	h := newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(nil))
	b := h.person(t)
	for alg, hashLength := range map[string]int{"RS256": 22, "ES256": 22, "EdDSA": 43} { // half of SHA-256 or SHA-512
		a := b.tokens(t, h.client(t, func(c *Client) { c.IDTokenAlg = alg }))
		head, id := claimsOf(t, a.str("id_token"))
		if head["alg"] != alg || head["kid"] == "" || len(id["at_hash"].(string)) != hashLength {
			t.Errorf("%s: %v at_hash %v", alg, head, id["at_hash"])
		}
	}
}

func TestConcurrentRedemptionOfOneCodeHasOneWinnerAndEndsTheGrant(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		code := b.code(t, c)
		var winner answer
		var wins, refused atomic.Int32
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				a := h.exchangeCode(t, c, code)
				switch {
				case a.status == http.StatusOK:
					wins.Add(1)
					mu.Lock()
					winner = a
					mu.Unlock()
				case a.status == http.StatusBadRequest && a.str("error") == "invalid_grant":
					refused.Add(1)
				default:
					t.Errorf("got %d %v", a.status, a.body)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 || refused.Load() != 49 {
			t.Fatalf("%d winners, %d refused, want 1 and 49", wins.Load(), refused.Load())
		}
		wantError(t, h.refreshToken(t, c, winner.str("refresh_token")), 400, "invalid_grant")
		if h.introspectToken(t, c, winner.str("access_token")) {
			t.Error("the access token of the replayed code lives on")
		}
		if got := h.userinfoAnswer(t, winner.str("access_token")).status; got != http.StatusUnauthorized {
			t.Errorf("userinfo %d, want 401", got)
		}
	})
}

func TestConcurrentRefreshGivesEveryoneTheSameSuccessor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		token := h.person(t).tokens(t, c).str("refresh_token")
		successors := make(chan string, 50)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				a := h.refreshToken(t, c, token)
				if a.status != http.StatusOK {
					t.Errorf("refresh: %d %v", a.status, a.body)
				}
				successors <- a.str("refresh_token")
			})
		}
		wg.Wait()
		close(successors)
		first := <-successors
		for s := range successors {
			if s != first {
				t.Fatal("two different successors: the grant forked")
			}
		}
		parsed, _ := parseRefreshToken(h.RefreshKey, first)
		row, err := h.Grants.byID(t.Context(), parsed.grantID.String())
		if err != nil || row.Generation != 2 {
			t.Errorf("generation %d (%v), want 2: one rotation", row.Generation, err)
		}
		if a := h.refreshToken(t, c, first); a.status != http.StatusOK {
			t.Errorf("the successor does not work: %v", a.body)
		}
	})
}

func TestStolenRefreshTokenUsedAfterTheWindowEndsTheGrantAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		mine, other := b.tokens(t, c), b.tokens(t, c)
		next := h.refreshToken(t, c, mine.str("refresh_token"))
		h.advanceClock(time.Minute)
		wantError(t, h.refreshToken(t, c, mine.str("refresh_token")), 400, "invalid_grant")
		wantError(t, h.refreshToken(t, c, next.str("refresh_token")), 400, "invalid_grant")
		if h.introspectToken(t, c, next.str("access_token")) {
			t.Error("the access token of a stolen grant lives on")
		}
		if a := h.refreshToken(t, c, other.str("refresh_token")); a.status != http.StatusOK {
			t.Errorf("another grant of the same person died too: %v", a.body)
		}
		var n int64
		if err := h.DB.QueryRow(t.Context(), `SELECT COUNT(*) FROM audit WHERE action = 'grant.theft' AND user_id = $1`, b.user.ID).Scan(&n); err != nil || n != 1 {
			t.Errorf("%d audit rows of the theft (%v), want 1", n, err)
		}
	})
}

// A crash of the database may undo a rotation whose answer the app already has (db.Hasty); so may a restored backup.
func TestRotationLostInACrashIsMadeGoodByItsToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		first := h.person(t).tokens(t, c).str("refresh_token")
		var hash []byte
		if err := h.DB.QueryRow(t.Context(), `SELECT refresh_hash FROM grants`).Scan(&hash); err != nil {
			t.Fatal(err)
		}
		second := h.refreshToken(t, c, first).str("refresh_token")
		if _, err := h.DB.Exec(t.Context(), `UPDATE grants SET refresh_hash = $1, previous_hash = $2, generation = generation - 1`, hash, []byte{}); err != nil {
			t.Fatal(err)
		}
		if !h.introspectToken(t, c, second) {
			t.Error("the token that is ahead of its row is said to be dead")
		}
		third := h.refreshToken(t, c, second)
		if third.status != http.StatusOK {
			t.Fatalf("refresh with the token that is ahead: %v", third.body)
		}
		if again := h.refreshToken(t, c, second); again.str("refresh_token") != third.str("refresh_token") {
			t.Errorf("a repetition within the window got another successor: %v", again.body)
		}
		wantError(t, h.refreshToken(t, c, first), 400, "invalid_grant") // whoever kept the older one is found out as ever
		wantError(t, h.refreshToken(t, c, third.str("refresh_token")), 400, "invalid_grant")
	})
}

func TestRefreshTokenTwoGenerationsOldIsTheftEvenWithinTheWindow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		first := h.person(t).tokens(t, c).str("refresh_token")
		second := h.refreshToken(t, c, first).str("refresh_token")
		third := h.refreshToken(t, c, second).str("refresh_token")
		wantError(t, h.refreshToken(t, c, first), 400, "invalid_grant")
		wantError(t, h.refreshToken(t, c, third), 400, "invalid_grant")
	})
}

func TestRefreshTokenOfAnotherClientIsRefusedAndDead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, thief := h.client(t, nil), h.client(t, nil)
		token := h.person(t).tokens(t, c).str("refresh_token")
		wantError(t, h.refreshToken(t, thief, token), 400, "invalid_grant")
		wantError(t, h.refreshToken(t, c, token), 400, "invalid_grant")
	})
}

func TestForgedOldRefreshTokenCannotEndAGrant(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		a := h.person(t).tokens(t, c)
		genuine, _ := parseRefreshToken(h.RefreshKey, a.str("refresh_token"))
		forged := refreshToken{grantID: genuine.grantID, generation: 0}.encode(make([]byte, 32))
		wantError(t, h.refreshToken(t, c, forged), 400, "invalid_grant")
		if r := h.refreshToken(t, c, a.str("refresh_token")); r.status != http.StatusOK {
			t.Errorf("the forged token ended the grant: %v", r.body)
		}
	})
}

func TestRefreshCannotOutliveTheGrant(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		token := h.person(t).tokens(t, c).str("refresh_token")
		for range 3 { // each refresh within the family's life does not move its end
			h.advanceClock(59 * 24 * time.Hour)
			a := h.refreshToken(t, c, token)
			if a.status != http.StatusOK {
				t.Fatalf("refresh: %v", a.body)
			}
			token = a.str("refresh_token")
		}
		h.advanceClock(5 * 24 * time.Hour)
		wantError(t, h.refreshToken(t, c, token), 400, "invalid_grant")
	})
}

func TestRefreshNarrowsButNeverWidens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		token := h.person(t).tokens(t, c, "scope", "openid read offline_access").str("refresh_token")
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "scope": {"read write"}}), 400, "invalid_scope")
		a := h.post(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "scope": {"read"}})
		if a.status != http.StatusOK || a.str("scope") != "read" {
			t.Fatalf("narrowed refresh: %d %v", a.status, a.body)
		}
		if _, access := claimsOf(t, a.str("access_token")); access["scope"] != "read" {
			t.Errorf("access token scope %v, want read", access["scope"])
		}
		if a = h.refreshToken(t, c, a.str("refresh_token")); a.str("scope") != "openid read offline_access" {
			t.Errorf("the grant lost scope: %v", a.body)
		}
	})
}

func TestAuthorizationCodeAttacks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, other, b := h.client(t, nil), h.client(t, nil), h.person(t)
		type edit func(v url.Values)
		for name, tc := range map[string]struct {
			edit   edit
			client registered
			code   string
		}{
			"code redeemed by another client":    {func(url.Values) {}, other, "invalid_grant"},
			"verifier dropped":                   {func(v url.Values) { v.Del("code_verifier") }, c, "invalid_grant"},
			"verifier wrong":                     {func(v url.Values) { v.Set("code_verifier", strings.Repeat("x", 50)) }, c, "invalid_grant"},
			"verifier too short":                 {func(v url.Values) { v.Set("code_verifier", "short") }, c, "invalid_grant"},
			"redirect URI changed":               {func(v url.Values) { v.Set("redirect_uri", "https://app.example.test/other") }, c, "invalid_grant"},
			"redirect URI dropped":               {func(v url.Values) { v.Del("redirect_uri") }, c, "invalid_grant"},
			"code cut short":                     {func(v url.Values) { v.Set("code", v.Get("code")[:20]) }, c, "invalid_grant"},
			"code missing":                       {func(v url.Values) { v.Del("code") }, c, "invalid_grant"},
			"grant type unknown":                 {func(v url.Values) { v.Set("grant_type", "password") }, c, "unsupported_grant_type"},
			"grant type missing":                 {func(v url.Values) { v.Del("grant_type") }, c, "invalid_request"},
			"parameter twice":                    {func(v url.Values) { v.Add("code", "x") }, c, "invalid_request"},
			"parameter not UTF-8":                {func(v url.Values) { v.Set("code", "\xff") }, c, "invalid_request"},
			"authenticated as one, acting for B": {func(v url.Values) { v.Set("client_id", other.ID) }, c, "invalid_request"},
			"two ways of authentication":         {func(v url.Values) { v.Set("client_secret", c.secret) }, c, "invalid_request"},
		} {
			v := exchangeForm(b.code(t, c))
			tc.edit(v)
			a := h.post(t, "/token", tc.client, v)
			if a.status != http.StatusBadRequest || a.str("error") != tc.code {
				t.Errorf("%s: got %d %v, want 400 %s", name, a.status, a.body, tc.code)
			}
		}
	})
}

func TestPKCEDowngradeByAWrongThenMissingVerifier(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) { c.RequirePKCE = false })
		v := exchangeForm(h.person(t).code(t, c))
		v.Set("code_verifier", strings.Repeat("x", 50))
		wantError(t, h.post(t, "/token", c, v), 400, "invalid_grant")
		v.Del("code_verifier")
		wantError(t, h.post(t, "/token", c, v), 400, "invalid_grant")
	})
}

func TestPKCEVerifierWithoutChallenge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, func(c *Client) { c.RequirePKCE = false }), h.person(t)
		code := b.code(t, c, "code_challenge", "", "code_challenge_method", "")
		wantError(t, h.exchangeCode(t, c, code), 400, "invalid_grant")

		v := exchangeForm(b.code(t, c, "code_challenge", "", "code_challenge_method", ""))
		v.Del("code_verifier")
		if a := h.post(t, "/token", c, v); a.status != http.StatusOK {
			t.Errorf("an excused client with a nonce was refused: %v", a.body)
		}
	})
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		code := h.person(t).code(t, c)
		h.advanceClock(61 * time.Second)
		wantError(t, h.exchangeCode(t, c, code), 400, "invalid_grant")
	})
}

func TestTokenEndpointRefusesOtherShapes(t *testing.T) {
	t.Parallel()
	h := newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(nil))
	c := h.client(t, nil)
	form := "grant_type=client_credentials&client_id=" + c.ID
	for name, r := range map[string]*http.Request{
		"parameters in the query": httptest.NewRequest(http.MethodPost, "/token?"+form, strings.NewReader(form)),
		"JSON body":               httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(`{"grant_type":"client_credentials"}`)),
		"oversized body":          httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(form+"&x="+strings.Repeat("a", 70<<10))),
		"broken encoding":         httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=%zz")),
	} {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if name == "JSON body" {
			r.Header.Set("Content-Type", "application/json")
		}
		a := h.do(t, r)
		if a.status != http.StatusBadRequest || a.str("error") != "invalid_request" {
			t.Errorf("%s: got %d %v", name, a.status, a.body)
		}
	}
	if a := h.do(t, httptest.NewRequest(http.MethodGet, "/token", nil)); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d, want 405", a.status)
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		ask := func(scope string) answer {
			return h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
		}
		a := ask("read")
		if a.status != http.StatusOK || a.str("scope") != "read" || a.str("refresh_token") != "" || a.str("id_token") != "" {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		if _, access := claimsOf(t, a.str("access_token")); access["sub"] != c.ID {
			t.Errorf("sub %v, want the client (RFC 9068 §2.2)", access["sub"])
		}
		if !h.introspectToken(t, c, a.str("access_token")) {
			t.Error("token is not active")
		}
		if a := ask(""); a.str("scope") != "read write" {
			t.Errorf("default scope %v", a.body)
		}
		for _, scope := range []string{"admin", "openid", "offline_access", "READ"} {
			wantError(t, ask(scope), 400, "invalid_scope")
		}
		wantError(t, h.post(t, "/token", h.client(t, public), url.Values{"grant_type": {"client_credentials"}}), 400, "unauthorized_client")
	})
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	h := newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(nil))
	basic, posted, pub := h.client(t, nil), h.client(t, func(c *Client) { c.AuthMethod = AuthPost }), h.client(t, public)
	form := func(edits ...string) url.Values {
		v := url.Values{"grant_type": {"client_credentials"}}
		for i := 0; i < len(edits); i += 2 {
			v.Set(edits[i], edits[i+1])
		}
		return v
	}
	ask := func(id, secret string, v url.Values) answer {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if id != "" {
			r.SetBasicAuth(id, secret)
		}
		return h.do(t, r)
	}
	for name, tc := range map[string]struct {
		got    answer
		status int
		code   string
	}{
		"basic":                       {ask(basic.ID, basic.secret, form()), 200, ""},
		"post":                        {ask("", "", form("client_id", posted.ID, "client_secret", posted.secret)), 200, ""},
		"wrong secret":                {ask(basic.ID, "wrong", form()), 401, "invalid_client"},
		"truncated secret":            {ask(basic.ID, basic.secret[:20], form()), 401, "invalid_client"},
		"unknown client":              {ask("nobody", "x", form()), 401, "invalid_client"},
		"post for basic client":       {ask("", "", form("client_id", basic.ID, "client_secret", basic.secret)), 401, "invalid_client"},
		"basic for post client":       {ask(posted.ID, posted.secret, form()), 401, "invalid_client"},
		"secretless for basic client": {ask("", "", form("client_id", basic.ID)), 401, "invalid_client"},
		"basic for public client":     {ask(pub.ID, "", form()), 401, "invalid_client"},
		"nothing":                     {ask("", "", form()), 401, "invalid_client"},
		"assertion":                   {ask("", "", form("client_id", basic.ID, "client_assertion", "x")), 401, "invalid_client"},
	} {
		if tc.got.status != tc.status || tc.got.str("error") != tc.code {
			t.Errorf("%s: got %d %v, want %d %s", name, tc.got.status, tc.got.body, tc.status, tc.code)
		}
		if tc.status == 401 && !strings.HasPrefix(tc.got.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: 401 without WWW-Authenticate", name)
		}
	}
	second, err := h.Clients.RotateSecret(t.Context(), basic.ID)
	if err != nil {
		t.Fatal(err)
	}
	third, err := h.Clients.RotateSecret(t.Context(), basic.ID)
	if err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{basic.secret: 401, second: 200, third: 200} {
		if a := ask(basic.ID, secret, form()); a.status != want {
			t.Errorf("after two rotations: got %d, want %d", a.status, want)
		}
	}
}

func TestBasicCredentialsAreFormEncoded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"plain": "plain", "a%2Bb": "a+b", "a+b": "a b", "100%": "100%", "%zz": "%zz"} {
		if got := decodeBasic(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestStateChangesReachEveryToken is the matrix of the most frequent hole of identity servers: something ends, and one
// way of using a token does not notice.
func TestStateChangesReachEveryToken(t *testing.T) {
	t.Parallel()
	changes := map[string]func(h *harness, b *browser, c registered) error{
		"person disabled": func(h *harness, b *browser, _ registered) error {
			return h.people.SetStatus(b.t(), b.user.ID, "disabled")
		},
		"person deleted": func(h *harness, b *browser, _ registered) error { return h.people.Delete(b.t(), b.user.ID) },
		"erasure asked for": func(h *harness, b *browser, _ registered) error {
			_, err := h.people.AskErasure(b.t(), b.user.ID, b.session.ID, false)
			return err
		},
		"erasure called off": func(h *harness, b *browser, _ registered) error {
			_, err := h.people.AskErasure(b.t(), b.user.ID, b.session.ID, false)
			return errors.Join(err, h.people.CancelErasure(b.t(), b.user.ID))
		},
		"session ended": func(h *harness, b *browser, _ registered) error {
			return h.people.EndSession(b.t(), b.user.ID, b.session.ID)
		},
		"consent withdrawn": func(h *harness, b *browser, c registered) error {
			return h.Withdraw(b.t(), b.user.ID, c.ID)
		},
		"client disabled": func(h *harness, b *browser, c registered) error {
			c.Disabled = true
			return h.Clients.Update(b.t(), c.Client)
		},
		"client deleted": func(h *harness, b *browser, c registered) error { return h.Clients.Delete(b.t(), c.ID) },
	}
	each(t, func(t *testing.T, h *harness) {
		for name, change := range changes {
			c, b := h.client(t, nil), h.person(t)
			observer := h.client(t, func(o *Client) { o.ID = "api-" + strings.ToLower(c.ID) })
			c.Audiences = []string{observer.ID}
			if err := h.Clients.Update(t.Context(), c.Client); err != nil {
				t.Fatal(err)
			}
			a := b.tokens(t, c)
			code := b.code(t, c)
			if !h.introspectToken(t, observer, a.str("access_token")) {
				t.Fatalf("%s: token is not active before", name)
			}
			if err := change(h, b, c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if h.introspectToken(t, observer, a.str("access_token")) {
				t.Errorf("%s: introspection says the access token is active", name)
			}
			if got := h.userinfoAnswer(t, a.str("access_token")).status; got != http.StatusUnauthorized {
				t.Errorf("%s: userinfo %d, want 401", name, got)
			}
			if got := h.refreshToken(t, c, a.str("refresh_token")); got.status != http.StatusBadRequest && got.status != http.StatusUnauthorized {
				t.Errorf("%s: refresh: %d %v", name, got.status, got.body)
			}
			if got := h.exchangeCode(t, c, code); got.status != http.StatusBadRequest && got.status != http.StatusUnauthorized {
				t.Errorf("%s: a code from before: %d %v", name, got.status, got.body)
			}
			if !strings.HasPrefix(name, "client") && !slices.Contains([]string{"consent withdrawn"}, name) {
				if w := b.get(h, "/authorize?"+c.params("prompt", "none").Encode()); !strings.Contains(w.Header().Get("Location"), "error=login_required") {
					t.Errorf("%s: the session still authorizes: %s", name, w.Header().Get("Location"))
				}
			}
		}
	})
}

func TestRightsDoNotReviveWithANewConsentOrAReenabledPerson(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		old := b.tokens(t, c)
		if err := h.Withdraw(t.Context(), b.user.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // marks have the resolution of a millisecond
		fresh := b.tokens(t, c)
		if h.introspectToken(t, c, old.str("access_token")) || !h.introspectToken(t, c, fresh.str("access_token")) {
			t.Error("want the old token dead and the new one alive")
		}
		wantError(t, h.refreshToken(t, c, old.str("refresh_token")), 400, "invalid_grant")
		for _, status := range []string{"disabled", "active"} {
			if err := h.people.SetStatus(t.Context(), b.user.ID, status); err != nil {
				t.Fatal(err)
			}
		}
		if h.introspectToken(t, c, fresh.str("access_token")) {
			t.Error("a token from before the person was disabled lives again")
		}
		wantError(t, h.refreshToken(t, c, fresh.str("refresh_token")), 400, "invalid_grant")
	})
}
