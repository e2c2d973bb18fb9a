package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// A browser keeps its secret, to which challenges are bound, for browserLife; one network may ask for challengesPerWindow.
const (
	browserLife         = 24 * time.Hour
	challengesPerWindow = 600
	challengesWindow    = 10 * time.Minute
)

// passkeyRoutes are the ways in that a passkey opens. Each has a route that makes the challenge, for passkey.js, and one that
// takes the answer.
func (p *Pages) passkeyRoutes() []web.Route {
	return []web.Route{
		{Pattern: "POST /login/discover/options", Handler: p.discoverOptions},
		{Pattern: "POST /login/discover", Handler: p.discover},
		{Pattern: "GET /login/passkey", Handler: p.passkeyStepPage},
		{Pattern: "POST /login/passkey/options", Handler: p.passkeyStepOptions},
		{Pattern: "POST /login/passkey", Handler: p.passkeyStep},
		{Pattern: "GET /step-up", Handler: p.stepUpPage},
		{Pattern: "POST /step-up", Handler: p.refuseStepUp},
		{Pattern: "POST /confirm/passkey/options", Handler: p.signedIn(p.confirmOptions)},
		{Pattern: "POST /confirm/passkey", Handler: p.signedIn(p.confirmPasskey)},
	}
}

// browser gives the secret of the browser that asks, and makes one if it has none.
func (p *Pages) browser(w http.ResponseWriter, r *http.Request) string {
	secret := p.Site.BrowserSecret(r)
	if secret == "" {
		secret = rand.Text()
	}
	p.Site.SetBrowserSecret(w, secret, p.Now().Add(browserLife))
	return secret
}

// passkeyOptions answers with what the browser needs to know for a ceremony.
func (p *Pages) passkeyOptions(w http.ResponseWriter, r *http.Request, c identity.Ceremony) error {
	if err := p.limit(r.Context(), "passkey", challengesPerWindow, challengesWindow); err != nil {
		return err
	}
	c.Browser = p.browser(w, r)
	options, err := p.People.BeginPasskey(r.Context(), c)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(options) // a browser that has gone away is no error of ours
	return nil
}

// checkPasskey judges the answer in a form. A passkey with a copy is told to its owner, and to nobody else.
func (p *Pages) checkPasskey(r *http.Request, c identity.Ceremony) (identity.User, []string, error) {
	f, err := readForm(r)
	if err != nil {
		return identity.User{}, nil, err
	}
	c.Browser = p.Site.BrowserSecret(r)
	u, amr, err := p.People.CheckPasskey(r.Context(), c, []byte(f.value("credential")), web.Address(r.Context()))
	var copied *identity.CopiedError
	if errors.As(err, &copied) {
		p.sent(r, p.mailPasskeyCopied(r.Context(), copied.User, deviceOf(r)))
	}
	if err != nil && errors.Is(err, identity.ErrPasskey) {
		p.Log.InfoContext(r.Context(), "passkey refused", "path", r.URL.Path, "err", err)
	}
	return u, amr, err
}

func (v visit) discovery() identity.Ceremony {
	return identity.Ceremony{Use: identity.PasskeySignIn, Scope: v.ID}
}

// discoverOptions begins a sign-in with whichever passkey the person chooses. It is the same for everybody.
func (p *Pages) discoverOptions(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	return p.passkeyOptions(w, r, v.discovery())
}

// discover signs the holder of a passkey in. It is two factors at once, so nothing else is asked.
func (p *Pages) discover(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	u, amr, err := p.checkPasskey(r, v.discovery())
	if errors.Is(err, identity.ErrPasskey) {
		content, err := p.loginContent(r, v)
		if err != nil {
			return err
		}
		content.Errors = identity.FieldErrors{"": "passkey.wrong"}
		return p.show(w, r, v, view{Name: "login", Status: http.StatusUnprocessableEntity, Content: content})
	}
	if err != nil {
		return err
	}
	return p.enter(w, r, v, u, amr)
}

// step is a second step under way: of a sign-in whose first factor this browser has proven, or of a session that must prove more.
type step struct {
	ticket string // empty: of a session
	login  identity.Login
	user   identity.User
}

// step finds what a second step belongs to. If it belongs to nothing any more, ok is false and the person has been sent back to the
// beginning.
func (p *Pages) step(w http.ResponseWriter, r *http.Request) (v visit, st step, ok bool, err error) {
	if v, err = p.visit(r); err != nil {
		return v, st, false, err
	}
	if st.ticket, st.login, st.user, ok, err = p.pendingLogin(r, v); ok || err != nil {
		return v, st, ok && err == nil, err
	}
	if !v.SignedIn || !v.Session.TwoStep() {
		return v, step{}, false, p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	u, err := p.People.User(r.Context(), v.Session.UserID)
	return v, step{user: u}, err == nil, err
}

// ceremony binds a challenge to the person and to what goes on with it.
func (st step) ceremony(v visit) identity.Ceremony {
	c := identity.Ceremony{Use: identity.PasskeyPresent, UserID: st.user.ID, Scope: "login:" + st.ticket}
	if st.ticket == "" {
		c.Scope = "session:" + v.Session.ID
	}
	return c
}

// finishStep goes on when the second step is proven: into a session, or with the one there is, whose token changes.
func (p *Pages) finishStep(w http.ResponseWriter, r *http.Request, v visit, st step, amr []string) error {
	if st.ticket != "" {
		if err := p.People.EndLogin(r.Context(), st.ticket); err != nil {
			return err
		}
		v.via = st.login.Via
		v.via.ProvenAt = p.Now()
		return p.enter(w, r, v, st.user, append(st.login.AMR, amr...))
	}
	token, s, err := p.People.StepUp(r.Context(), v.Session, amr)
	if errors.Is(err, identity.ErrNotFound) {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	if err != nil {
		return err
	}
	p.Site.SetSessionToken(w, token, s.ExpiresAt)
	return p.onward(w, r, v, s)
}

// nextStep is the page of the strongest second factor that a person has and can use here.
func (p *Pages) nextStep(u identity.User) string {
	switch {
	case u.HasPasskey && p.People.PasskeysPossible():
		return "/login/passkey"
	case u.HasTOTP:
		return "/login/code"
	}
	return "/login/recovery"
}

type passkeyPage struct {
	ID     string
	App    *app
	Email  string
	Code   bool // there is an authenticator app
	Only   bool // nothing but a passkey is enough
	Errors identity.FieldErrors
}

func (p *Pages) passkeyStepPage(w http.ResponseWriter, r *http.Request) error {
	v, st, ok, err := p.step(w, r)
	if !ok {
		return err
	}
	return p.showPasskeyStep(w, r, v, st, nil)
}

func (p *Pages) showPasskeyStep(w http.ResponseWriter, r *http.Request, v visit, st step, problems identity.FieldErrors) error {
	return p.show(w, r, v, view{Name: "passkey", Status: statusOf(problems), Content: passkeyPage{
		ID: v.ID, App: v.app(), Email: st.user.Email, Code: st.user.HasTOTP, Errors: problems,
		Only: st.ticket == "" && p.demanded(v) == identity.ACRPhishingResistant,
	}})
}

func (p *Pages) passkeyStepOptions(w http.ResponseWriter, r *http.Request) error {
	v, st, ok, err := p.step(w, r)
	if !ok {
		return err
	}
	return p.passkeyOptions(w, r, st.ceremony(v))
}

func (p *Pages) passkeyStep(w http.ResponseWriter, r *http.Request) error {
	v, st, ok, err := p.step(w, r)
	if !ok {
		return err
	}
	_, amr, err := p.checkPasskey(r, st.ceremony(v))
	if errors.Is(err, identity.ErrPasskey) {
		return p.showPasskeyStep(w, r, v, st, identity.FieldErrors{"": "passkey.wrong"})
	}
	if err != nil {
		return err
	}
	return p.finishStep(w, r, v, st, amr)
}

// demanded is the class that a signed-in person is asked to reach: by the app that sent them, or by the policy of the server.
func (p *Pages) demanded(v visit) string {
	switch v.Interaction.Reason {
	case reasonMFA:
		return identity.ACRMFA
	case reasonPasskey:
		return identity.ACRPhishingResistant
	}
	return p.SignInPolicy
}

type stepUpPage struct {
	ID      string
	App     *app
	Passkey bool // can be made here
	Only    bool // nothing but a passkey is enough
	Email   string
}

// stepUpPage sends the person to the factor that is missing, or explains which one they have to set up first.
func (p *Pages) stepUpPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	demanded, s := p.demanded(v), v.Session
	switch {
	case !v.SignedIn:
		return p.redirect(w, r, withInteraction("/login", v.ID))
	case identity.Reaches(s.ACR(), demanded):
		return p.onward(w, r, v, s)
	case demanded == identity.ACRPhishingResistant && s.HasPasskey:
		return p.redirect(w, r, withInteraction("/login/passkey", v.ID))
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	if demanded == identity.ACRMFA && u.TwoStep() {
		return p.redirect(w, r, withInteraction(p.nextStep(u), v.ID))
	}
	return p.show(w, r, v, view{Name: "step_up", Content: stepUpPage{
		ID: v.ID, App: v.app(), Email: u.Email, Passkey: p.People.PasskeysPossible(), Only: demanded == identity.ACRPhishingResistant,
	}})
}

// refuseStepUp lets the person go back to the app without what it demands. The app hears of it from the dispatcher.
func (p *Pages) refuseStepUp(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if _, err := readForm(r); err != nil {
		return err
	}
	if v.ID == "" || !v.SignedIn {
		return p.redirect(w, r, "/account")
	}
	if err := p.OAuth.CannotProve(r.Context(), v.ID); err != nil {
		return expired(err)
	}
	return p.onward(w, r, v, v.Session)
}

func confirmation(s identity.Session) identity.Ceremony {
	return identity.Ceremony{Use: identity.PasskeyPresent, UserID: s.UserID, Scope: "confirm:" + s.ID}
}

func (p *Pages) confirmOptions(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.passkeyOptions(w, r, confirmation(s))
}

// confirmPasskey is confirm with a passkey in place of password and code.
func (p *Pages) confirmPasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	to := place(f.value("to"))
	_, amr, err := p.checkPasskey(r, confirmation(s))
	if errors.Is(err, identity.ErrPasskey) {
		return p.showConfirm(w, r, s, to, f.value("i"), identity.FieldErrors{"": "passkey.wrong"})
	}
	if err != nil {
		return err
	}
	if err := p.stepUp(w, r, s, amr); err != nil {
		return err
	}
	return p.redirect(w, r, withInteraction(places[to], f.value("i")))
}

// mailPasskeyCopied tells a person that one of their passkeys was seen in two places.
func (p *Pages) mailPasskeyCopied(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "passkey_copied", u, dev)
}
