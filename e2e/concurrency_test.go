package e2e

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

const crowd = 50

// atOnce calls f from as many goroutines as the crowd has, released together.
func atOnce(t *testing.T, f func() (answer, error)) []answer {
	t.Helper()
	answers, errs := make([]answer, crowd), make([]error, crowd)
	gate := make(chan struct{})
	var running sync.WaitGroup
	for i := range crowd {
		running.Go(func() {
			<-gate
			answers[i], errs[i] = f()
		})
	}
	close(gate)
	running.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// An attacker who saw the code races the app: one of them gets tokens, and that there were two kills them
// (RFC 6749 §4.1.2, RFC 9700 §4.5).
func TestOneCodeRedeemedByFiftyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		newUser(t, s, "ada@example.test")
		a := newApp(t, s)
		code, verifier := a.signIn(rig.NewBrowser(s.Issuer), "ada@example.test")

		var won []answer
		for _, got := range atOnce(t, func() (answer, error) {
			return a.post("/token", url.Values{
				"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
			})
		}) {
			switch {
			case got.Status == http.StatusOK:
				won = append(won, got)
			case got.Status != http.StatusBadRequest || got.Error != "invalid_grant":
				t.Errorf("a loser got %d %q, want 400 invalid_grant", got.Status, got.Error)
			case got.AccessToken != "" || got.RefreshToken != "" || got.IDToken != "":
				t.Error("a loser got tokens beside its error")
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d of %d redemptions succeeded, want exactly 1", len(won), crowd)
		}
		if a.active(won[0].AccessToken) {
			t.Error("the winner's access token is active, although the code was used twice")
		}
		if got, err := a.refresh(won[0].RefreshToken); err != nil || got.Error != "invalid_grant" {
			t.Errorf("the winner's refresh token: got %d %q, %v, want invalid_grant", got.Status, got.Error, err)
		}
	})
}

// An app with many workers must not lose its grant because two of them refresh at the same moment, and must not end up
// with two living refresh tokens either.
func TestOneRefreshTokenUsedByFiftyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		newUser(t, s, "ada@example.test")
		a := newApp(t, s)
		token := a.tokens("ada@example.test").RefreshToken

		successors := map[string]int{}
		for _, got := range atOnce(t, func() (answer, error) { return a.refresh(token) }) {
			if got.Status != http.StatusOK {
				t.Errorf("got %d %q, want 200", got.Status, got.Error)
			}
			successors[got.RefreshToken]++
		}
		if len(successors) != 1 || successors[token] != 0 || successors[""] != 0 {
			t.Fatalf("got %d different successors, want one new token for all", len(successors))
		}
		for next := range successors {
			got, err := a.refresh(next)
			if err != nil || got.Status != http.StatusOK || got.RefreshToken == next {
				t.Errorf("the successor: got %d %q, %v, want its own successor", got.Status, got.Error, err)
			}
		}
	})
}
