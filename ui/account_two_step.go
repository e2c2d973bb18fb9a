package ui

import (
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type twoStepPage struct {
	Done      string
	Person    string
	On        bool // an authenticator app
	Passkey   bool // … or a passkey, or both
	Codes     bool // there are, or could be, recovery codes
	CodesLeft string
	FewCodes  bool
}

func (p *Pages) twoStepPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	page := twoStepPage{Done: done(r), Person: s.UserID, On: s.HasTOTP, Passkey: s.HasPasskey, Codes: s.TwoStep()}
	if s.TwoStep() {
		left, err := p.People.RecoveryCodesLeft(r.Context(), s.UserID)
		if err != nil {
			return err
		}
		page.CodesLeft, page.FewCodes = p.locale(r.Context()).many("account.codes", left), left < fewCodes
	}
	return p.render(w, r, view{Name: "account_two_step", Content: page, Wide: true, Nav: "two-step"})
}

type setupPage struct {
	ID     string // of the interaction to go on with
	Person string
	QR     template.URL // data: URL of a PNG
	Secret []string     // in groups of four, for typing
	Link   template.URL // otpauth: opens an app on this device
	Errors identity.FieldErrors
}

// setupPage shows the secret until the first code is confirmed, and never again.
func (p *Pages) setupPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showSetup(w, r, s, nil)
}

func (p *Pages) showSetup(w http.ResponseWriter, r *http.Request, s identity.Session, problems identity.FieldErrors) error {
	e, err := p.People.BeginTOTP(r.Context(), s.UserID, p.Name)
	switch {
	case errors.Is(err, identity.ErrEnrolled):
		return p.redirect(w, r, "/account/two-step")
	case err != nil:
		return err
	}
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	page := setupPage{
		ID: query.value("i"), Person: s.UserID,
		// Both are made by identity from a secret and a configured name, and escaped there.
		QR:     template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(e.QR)), //nolint:gosec // base64
		Link:   template.URL(e.URL),                                                              //nolint:gosec // net/url wrote it
		Errors: problems,
	}
	for secret := e.Secret; secret != ""; {
		n := min(4, len(secret))
		page.Secret, secret = append(page.Secret, secret[:n]), secret[n:]
	}
	v := view{Name: "account_two_step_setup", Content: page, Wide: true, Nav: "two-step"}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// codesPage shows recovery codes. It is the answer to the POST itself: the codes are nowhere kept in the clear, so no
// later page could show them.
type codesPage struct {
	Codes []string
	New   bool // in place of older ones
	Ended bool // other sessions did
	Email string

	Passkey bool   // the first second factor was a passkey
	Next    string // back to the app that demanded it
}

func (p *Pages) setUp(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	code := f.trimmed("code")
	if code == "" {
		return p.showSetup(w, r, s, identity.FieldErrors{"code": identity.KeyRequired})
	}
	codes, err := p.People.ConfirmTOTP(r.Context(), s, code)
	switch {
	case errors.Is(err, identity.ErrStale):
		return p.redirect(w, r, withInteraction("/confirm?to=setup", r.URL.Query().Get("i")))
	case errors.Is(err, identity.ErrEnrolled):
		return p.redirect(w, r, "/account/two-step")
	case errors.Is(err, identity.ErrCode):
		return p.showSetup(w, r, s, identity.FieldErrors{"code": "account_two_step_setup.code_wrong"})
	case errors.Is(err, identity.ErrNotFound): // the page was never opened
		return p.redirect(w, r, "/account/two-step/setup")
	case err != nil:
		return err
	}
	// The other sessions have proven the password only, which from now on is not enough.
	ended, err := p.People.EndSessions(r.Context(), s.UserID, s.ID)
	if err != nil {
		return err
	}
	if err := p.stepUp(w, r, s, []string{identity.AMROTP, identity.AMRMFA}); err != nil {
		return err
	}
	return p.showCodes(w, r, s, codesPage{Codes: codes, Ended: ended > 0, Next: p.resume(r.URL.Query().Get("i"))})
}

func (p *Pages) newCodes(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if !s.TwoStep() {
		return p.redirect(w, r, "/account/two-step")
	}
	codes, err := p.People.NewRecoveryCodes(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.showCodes(w, r, s, codesPage{Codes: codes, New: true})
}

func (p *Pages) showCodes(w http.ResponseWriter, r *http.Request, s identity.Session, page codesPage) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	notice := p.mailTwoStepOn
	if page.New {
		notice = p.mailNewCodes
	}
	p.sent(r, notice(r.Context(), u, deviceOf(r)))
	page.Email = u.Email
	return p.render(w, r, view{Name: "account_two_step_codes", Content: page, Wide: true, Nav: "two-step"})
}

func (p *Pages) turnOff(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if !s.HasTOTP {
		return p.redirect(w, r, "/account/two-step")
	}
	if err := p.People.RemoveTOTP(r.Context(), s.UserID); err != nil {
		return err
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	if u.HasPasskey {
		p.sent(r, p.notice(r.Context(), "app_off", u, deviceOf(r)))
		return p.redirect(w, r, "/account/two-step?done=app_off")
	}
	p.sent(r, p.mailTwoStepOff(r.Context(), u, deviceOf(r)))
	return p.redirect(w, r, "/account/two-step?done=two_step_off")
}
