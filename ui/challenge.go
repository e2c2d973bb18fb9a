package ui

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Wrong sign-ins after which a challenge is asked, until failingFor has passed without: of one account, from one address, and
// from the network around it.
const (
	failuresOfAccount = 3
	failuresOfAddress = 10
	failuresOfNetwork = 4 * failuresOfAddress
	failingFor        = 15 * time.Minute
)

// The forms that a challenge is bound to.
const (
	signUpForm = "register"
	signInForm = "login"
)

// puzzle is the challenge in a form, "" if none is asked; the script solves it while the person types.
func (p *Pages) puzzle(r *http.Request, form string) string {
	return p.Challenge.New(form, web.Network(r.Context()))
}

// met checks what a form brings for its challenge. If it is not met, problem is the locale key that says so and next the
// challenge to show with it. An unsolved one is told to wait and shown again, so that its wait goes on: who has no
// JavaScript gets in by patience, a few times an hour (limits in internal/challenge).
func (p *Pages) met(r *http.Request, form, answer string) (problem, next string, err error) {
	ctx := r.Context()
	err = p.Challenge.Check(ctx, form, web.Network(ctx), answer)
	var soon *challenge.SoonError
	var often *challenge.OftenError
	switch {
	case err == nil:
		return "", "", nil
	case errors.As(err, &soon):
		return "challenge.wait", answer, nil
	case errors.As(err, &often):
		return "", "", &identity.LimitError{RetryAfter: often.Wait}
	case errors.Is(err, challenge.ErrWrong), errors.Is(err, challenge.ErrOld):
		return "challenge.again", p.puzzle(r, form), nil
	}
	return "", "", err
}

// guarded reports whether signing in takes a challenge: always where that is set, else after repeated failures of the account
// or the network. Whether there is such an account makes no difference.
func (p *Pages) guarded(ctx context.Context, email string) (bool, error) {
	if p.ChallengeAlways {
		return true, nil
	}
	for _, key := range failingKeys(ctx, email) {
		if _, failing, err := p.Cache.Get(ctx, "ui:failing:"+key.name); err != nil || failing {
			return failing, err
		}
	}
	return false, nil
}

// guard is met for signing in, where that is guarded.
func (p *Pages) guard(r *http.Request, email, answer string) (problem, next string, err error) {
	if guarded, err := p.guarded(r.Context(), email); err != nil || !guarded {
		return "", "", err
	}
	return p.met(r, signInForm, answer)
}

// failed counts a wrong password or code and gives the challenge for the next try, "" if none is asked yet. The counts, and what
// follows from them, run out by themselves.
func (p *Pages) failed(r *http.Request, email string) (puzzle string, err error) {
	ctx := r.Context()
	for _, key := range failingKeys(ctx, email) {
		wait, err := p.Cache.Allow(ctx, "ui:failures:"+key.name, key.limit-1, failingFor)
		if err == nil && wait > 0 {
			err = p.Cache.Put(ctx, "ui:failing:"+key.name, []byte{1}, failingFor)
		}
		if err != nil {
			return "", err
		}
	}
	guarded, err := p.guarded(ctx, email)
	if err != nil || !guarded {
		return "", err
	}
	return p.puzzle(r, signInForm), nil
}

type failingKey struct {
	name  string
	limit int
}

func failingKeys(ctx context.Context, email string) []failingKey {
	keys := []failingKey{
		{"address:" + web.Network(ctx), failuresOfAddress},
		{"network:" + web.WiderNetwork(ctx), failuresOfNetwork},
	}
	if email != "" {
		keys = append(keys, failingKey{"account:" + mailbox(email), failuresOfAccount})
	}
	return keys
}

// mailbox names an address in a limit; all its spellings have one name.
func mailbox(email string) string {
	if normal, ok := identity.NormalEmail(email); ok {
		email = normal
	}
	sum := sha256.Sum256([]byte(strings.ToLower(email)))
	return hex.EncodeToString(sum[:16])
}
