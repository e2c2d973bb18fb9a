package ui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
)

// freshness is how recent a proof must be before something can change that keeps strangers out.
const freshness = identity.Freshness

// proven reports whether the person has proven who they are within freshness, and with both steps if there are two: a
// password alone must not be enough to take the second step away.
//
// A provider that lets its people through without a question proves nothing but the browser, however young the session is.
func (p *Pages) proven(ctx context.Context, s identity.Session) (bool, error) {
	age := p.Now().Sub(s.AuthTime)
	if age < 0 || age >= freshness || s.TwoStep() && !identity.Reaches(s.ACR(), identity.ACRMFA) {
		return false, nil
	}
	if !slices.Contains(s.AMR, identity.AMRFederated) {
		return true, nil
	}
	_, asked, err := p.Cache.Get(ctx, askedKey(s.ID))
	return asked, err
}

// asked remembers, as long as it is fresh, that the person of a session that came by a provider was asked who they are.
func (p *Pages) asked(ctx context.Context, s identity.Session, at time.Time) error {
	left := freshness - p.Now().Sub(at)
	if at.IsZero() || left <= 0 {
		return p.Cache.Delete(ctx, askedKey(s.ID))
	}
	return p.Cache.Put(ctx, askedKey(s.ID), []byte{1}, min(left, freshness))
}

func askedKey(sessionID string) string { return "ui:asked:" + sessionID }

// freshly is signedIn for pages that need a recent proof; without one the person goes to /confirm and comes back to the
// page that the word to stands for.
func (p *Pages) freshly(to string, next sessionHandler) handler {
	return p.signedIn(func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		if fresh, err := p.proven(r.Context(), s); err != nil {
			return err
		} else if !fresh {
			return p.redirect(w, r, withInteraction("/confirm?to="+to, r.URL.Query().Get("i")))
		}
		if !identity.Reaches(s.ACR(), p.SignInPolicy) && !(slices.Contains(enrolments, to) && p.lacksFactor(s)) {
			return p.redirect(w, r, "/step-up")
		}
		return next(w, r, s)
	})
}

// enrolments are the places where people set up what the policy of the server demands, and which they reach without it.
var enrolments = []string{"setup", "passkey"}

// lacksFactor reports whether a person has nothing yet by which they could meet the policy. Who has must use it, to add another as
// well: else the weaker proof would make itself the stronger one (a phished code that enrols a passkey).
func (p *Pages) lacksFactor(s identity.Session) bool {
	return !s.HasPasskey && (p.SignInPolicy == identity.ACRPhishingResistant || !s.HasTOTP)
}

// places are the words that /confirm knows, and the pages they stand for. No other can be reached: a path taken from the
// request would let a link lead from our page to another site (open redirect).
var places = map[string]string{
	"email":    "/account/email",
	"setup":    "/account/two-step/setup",
	"two-step": "/account/two-step?done=confirmed",
	"passkey":  "/account/passkeys/new",
	"passkeys": "/account/passkeys?done=confirmed",
	"password": "/account/password",
	"privacy":  "/account/privacy",
	"linked":   "/account/linked",
	"groups":   "/account/groups",
	"activity": "/account/activity",
	"delete":   "/account/privacy/delete",
	"":         "/account",
}

// place gives to if it is a word that /confirm knows, else "".
func place(to string) string {
	if _, ok := places[to]; !ok {
		return ""
	}
	return to
}

type confirmPage struct {
	Person  string
	To      string
	ID      string // of the interaction to go on with
	Email   string
	TwoStep bool
	Passkey bool
	Errors  identity.FieldErrors

	Password  bool // there is one to ask for
	Notice    notice
	Providers []upstream.Provider // that can confirm it instead
}

func (p *Pages) confirmPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	return p.showConfirm(w, r, s, place(query.value("to")), query.value("i"), nil)
}

func (p *Pages) showConfirm(w http.ResponseWriter, r *http.Request, s identity.Session, to, interaction string, problems identity.FieldErrors) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	providers, err := p.confirmers(r, u.ID)
	if err != nil {
		return err
	}
	v := view{Name: "confirm", Plain: !u.HasPasskey, Content: confirmPage{
		Person: u.ID, To: to, ID: interaction, Email: u.Email, TwoStep: u.TwoStep(), Passkey: u.HasPasskey && p.People.PasskeysPossible(), Errors: problems,
		Password: u.HasPassword, Notice: tripNotices[r.URL.Query().Get("n")], Providers: providers,
	}}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

func (p *Pages) confirm(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	to := place(f.value("to"))
	amr, problems, err := p.prove(r, s, "password", f.value("password"), f.trimmed("code"))
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return p.showConfirm(w, r, s, to, f.value("i"), problems)
	}
	if err := p.stepUp(w, r, s, amr); err != nil {
		return err
	}
	return p.redirect(w, r, withInteraction(places[to], f.value("i")))
}

// prove checks the password and, when two-step sign-in is on, the code: one from the app or a recovery code. Who has shown a passkey within
// freshness has given the second factor by that. It returns
// what was proven (RFC 8176), or what is wrong, with the password under the name of its field.
func (p *Pages) prove(r *http.Request, s identity.Session, field, password, code string) ([]string, identity.FieldErrors, error) {
	problems := identity.FieldErrors{}
	if password == "" {
		problems[field] = identity.KeyRequired
	}
	asksCode := p.asksCode(r.Context(), s)
	if asksCode && code == "" {
		problems["code"] = identity.KeyRequired
	}
	if len(problems) > 0 {
		return nil, problems, nil
	}
	switch err := p.People.CheckUserPassword(r.Context(), s.UserID, password, deviceOf(r).Address); {
	case errors.Is(err, identity.ErrCredentials):
		return nil, identity.FieldErrors{field: "confirm.password_wrong"}, p.failedIn(r, s)
	case err != nil:
		return nil, nil, err
	}
	if !asksCode {
		if s.TwoStep() {
			return append([]string{identity.AMRPassword}, s.AMR...), nil, nil
		}
		return []string{identity.AMRPassword}, nil, nil
	}
	factor, check := identity.AMROTP, p.People.CheckTOTP
	if !sixDigits(code) {
		factor, check = identity.AMRRecovery, p.People.CheckRecoveryCode
	}
	switch err := check(r.Context(), s.UserID, code); {
	case errors.Is(err, identity.ErrCode):
		return nil, identity.FieldErrors{"code": "confirm.code_wrong"}, p.failedIn(r, s)
	case err != nil:
		return nil, nil, err
	}
	return []string{identity.AMRPassword, factor, identity.AMRMFA}, nil, nil
}

// failedIn counts what went wrong in a session as failed does: the next sign-in takes work whichever form was used to guess.
func (p *Pages) failedIn(r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err == nil {
		_, err = p.failed(r, u.Email)
	}
	return err
}

// asksCode tells whether the password alone does not do, and a code of the second step is wanted beside it.
func (p *Pages) asksCode(ctx context.Context, s identity.Session) bool {
	if !s.TwoStep() || s.ACR() != identity.ACRPhishingResistant {
		return s.TwoStep()
	}
	fresh, err := p.proven(ctx, s)
	return err != nil || !fresh // what is not known is asked
}

// stepUp writes a new proof into the session and gives the browser its new token. When another request of the same
// browser was quicker (a double click), its token is the one in force.
func (p *Pages) stepUp(w http.ResponseWriter, r *http.Request, s identity.Session, amr []string) error {
	token, s, err := p.People.StepUp(r.Context(), s, amr)
	if errors.Is(err, identity.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Site.SetSessionToken(w, token, s.ExpiresAt)
	return nil
}

// sixDigits tells a code of an authenticator app, however spaced, from a recovery code.
func sixDigits(code string) bool {
	digits := 0
	for _, c := range code {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c != ' ':
			return false
		}
	}
	return digits == 6
}
