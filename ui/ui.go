// Package ui is everything a person sees: sign-in, consent, account. Its pages work without JavaScript and decide
// nothing: they read a form, ask identity or oauth to act, and show what came of it.
//
// A page is a file templates/NAME.html that defines "content", a typed struct of what it shows, texts "NAME.…" in
// locale/*/*.json, and a handler that ends in
//
//	return p.render(w, r, view{Name: "NAME", Content: NAMEPage{…}})
//
// The title is the text "NAME.title" unless view.Title says otherwise. Files _*.html are shared by all pages.
package ui

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	texttemplate "text/template"
	"time"

	"golang.org/x/text/language"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
	"github.com/gatehouse-id/gatehouse/internal/geo"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// Config is what Pages work with. Inbox and Now may be nil; everything else is required.
type Config struct {
	Site   web.Site
	People *identity.Directory
	OAuth  *oauth.Server
	Mail   mail.Mailer
	Inbox  *mail.Inbox // shown at /inbox; nil unless mail goes nowhere else
	Cache  cache.Cache // limits on mails and sign-ups, addresses on their way from one page to the next
	Audit  *audit.Log
	Log    *slog.Logger

	Upstream *upstream.Trips // where else people may sign in; nil: nowhere

	Name string // what people call this service; empty: Gatehouse

	Registration         bool // strangers may create an account
	RegistrationsPerHour int  // from one address; 0: 30
	Invitations          bool // invited people may
	MailCodes            bool // people may sign in by a code from a mail

	// Challenge guards signing up, and signing in after repeated failures or, with ChallengeAlways, each time; nil: nothing.
	Challenge            challenge.Guard
	ChallengeAlways      bool
	SignInPolicy         string // the least authentication context class that opens an account; empty: any
	RequireVerifiedEmail bool   // an address must be confirmed before it is of use

	Places *geo.Table // where network addresses are; nil knows none

	Now func() time.Time
}

// Pages answers every request for a page.
type Pages struct {
	Config
	locales []*locale // in the order of languages
	matcher language.Matcher
	letter  *texttemplate.Template
	assets  assets
	cross   *http.CrossOriginProtection

	exporting sync.Mutex // one file of data at a time is made in this process

	// What need not, or must not, delay an answer.
	behind     sync.WaitGroup
	behindSeat chan struct{}
}

// maxBehind bounds the work behind answers that is under way at once.
const maxBehind = 64

// New parses templates and texts; a mistake in them stops the start.
func New(c Config) (*Pages, error) {
	if c.People == nil || c.OAuth == nil || c.Mail == nil || c.Cache == nil || c.Audit == nil || c.Log == nil {
		return nil, errors.New("ui needs people, an OAuth server, a mailer, a cache, an audit log and a logger")
	}
	if c.Name == "" {
		c.Name = "Gatehouse"
	}
	if c.RegistrationsPerHour <= 0 {
		c.RegistrationsPerHour = registrationsPerHour
	}
	if c.Challenge == nil {
		c.Challenge = challenge.None{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Pages{Config: c, cross: http.NewCrossOriginProtection(), behindSeat: make(chan struct{}, maxBehind)}
	// Behind a proxy that rewrites Host, an old browser's Origin would look foreign; the configured origin never is.
	if err := p.cross.AddTrustedOrigin(c.Site.Origin()); err != nil {
		return nil, err
	}
	var err error
	if p.assets, err = loadAssets(pageFiles); err != nil {
		return nil, err
	}
	p.matcher = language.NewMatcher(languages)
	if err = p.loadLocales(); err != nil {
		return nil, err
	}
	if p.letter, err = texttemplate.ParseFS(pageFiles, "templates/mail/letter.txt"); err != nil {
		return nil, err
	}
	return p, nil
}

// Routes lists every page. No route but GET changes anything without passing the guard against other sites.
func (p *Pages) Routes() []web.Route {
	routes := append([]web.Route{
		{Pattern: "GET /assets/{file}", Handler: p.asset},
		{Pattern: "GET /{$}", Handler: p.home},
		{Pattern: "/", Handler: p.unknown},
	}, slices.Concat(p.loginRoutes(), p.passkeyRoutes(), p.accountRoutes(), p.agentRoutes(), p.requestRoutes(), p.upstreamRoutes())...)
	for i := range routes {
		routes[i].Handler = p.heard(p.sameOrigin(routes[i].Handler))
	}
	routes = append(routes, p.checkSessionRoutes()...)
	// Apps post here from their own sites; the handler tells them from our page.
	return append(routes, web.Route{Pattern: "POST /logout", Handler: p.heard(p.logout)})
}

// loginRoutes are the pages on the way into an app or the account, and out again.
func (p *Pages) loginRoutes() []web.Route {
	routes := []web.Route{
		{Pattern: "GET /login", Handler: p.loginPage},
		{Pattern: "POST /login", Handler: p.login},
		{Pattern: "GET /login/code", Handler: p.codePage},
		{Pattern: "POST /login/code", Handler: p.code},
		{Pattern: "GET /login/recovery", Handler: p.recoveryPage},
		{Pattern: "POST /login/recovery", Handler: p.recovery},
		{Pattern: "GET /closing", Handler: p.closingPage},
		{Pattern: "POST /closing", Handler: p.keep},
		{Pattern: "GET /register", Handler: p.registerPage},
		{Pattern: "POST /register", Handler: p.register},
		{Pattern: "POST /password-strength", Handler: p.passwordStrength},
		{Pattern: "GET /verify", Handler: p.verifyPage},
		{Pattern: "POST /verify", Handler: p.verifyResend},
		{Pattern: "GET /verify/link", Handler: p.verifyLinkPage},
		{Pattern: "POST /verify/link", Handler: p.verifyLink},
		{Pattern: "POST /verify/link/not-me", Handler: p.refuseLink},
		{Pattern: "GET /forgot", Handler: p.forgotPage},
		{Pattern: "POST /forgot", Handler: p.forgot},
		{Pattern: "GET /reset", Handler: p.resetPage},
		{Pattern: "POST /reset", Handler: p.reset},
		{Pattern: "GET /password/new", Handler: p.newPasswordPage},
		{Pattern: "POST /password/new", Handler: p.newPassword},
		{Pattern: "GET /attributes", Handler: p.signedIn(p.missingAttributesPage)},
		{Pattern: "POST /attributes", Handler: p.signedIn(p.giveMissing)},
		{Pattern: "GET /select", Handler: p.selectPage},
		{Pattern: "POST /select", Handler: p.selectAccount},
		{Pattern: "GET /consent", Handler: p.consentPage},
		{Pattern: "POST /consent", Handler: p.consent},
		{Pattern: "GET /device", Handler: p.devicePage},
		{Pattern: "POST /device", Handler: p.device},
		{Pattern: "GET /device/done", Handler: p.deviceDonePage},
		{Pattern: "GET /no-access", Handler: p.noAccessPage},
		{Pattern: "POST /no-access", Handler: p.noAccess},
		{Pattern: "GET /logout", Handler: p.logoutPage},
		{Pattern: "GET /signed-out", Handler: p.signedOutPage},
		{Pattern: "GET /invitation", Handler: p.invitationPage},
		{Pattern: "POST /invitation", Handler: p.acceptInvitation},
	}
	routes = append(routes, p.notMeRoutes()...)
	return append(routes, p.mailCodeRoutes()...)
}

type handler = func(w http.ResponseWriter, r *http.Request) error

// sameOrigin refuses what another site's page sends (cross-site request forgery, login included: a person signed in to
// an attacker's account would hand over what they type there).
func (p *Pages) sameOrigin(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := p.cross.Check(r); err != nil {
			return &pageError{status: http.StatusForbidden, key: "error.cross_site", err: err}
		}
		return next(w, r)
	}
}

// signedIn gives next the session; without one, or with a one-time password still in force, the person goes there first. What
// is posted must come from a page that was shown to the person of the session.
func (p *Pages) signedIn(next func(w http.ResponseWriter, r *http.Request, s identity.Session) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, ok, err := p.session(r)
		switch {
		case err != nil:
			return err
		case !ok:
			return p.redirect(w, r, "/login")
		case s.MustChangePassword:
			return p.redirect(w, r, "/password/new")
		}
		if r.Method == http.MethodPost {
			if err := shownTo(r, s.UserID); err != nil {
				return err
			}
		}
		return next(w, r, s)
	}
}

// shownTo refuses a form that was shown to somebody else than userID: another tab has switched accounts meanwhile, and who
// fills the form in means the account they see. Each form names its person by {{template "person" .Person}}.
func shownTo(r *http.Request, userID string) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	if f.value("person") != userID {
		return errOtherPerson
	}
	return nil
}

// session finds the session of the request's cookie.
func (p *Pages) session(r *http.Request) (s identity.Session, ok bool, err error) {
	token := p.Site.SessionToken(r)
	if token == "" {
		return s, false, nil
	}
	s, err = p.People.Session(r.Context(), token)
	if err != nil {
		learn(r.Context(), func(a *audience) { a.token = "" })
	}
	if errors.Is(err, identity.ErrNotFound) {
		return s, false, nil
	}
	learn(r.Context(), func(a *audience) { a.reader = &s.Preferences })
	return s, err == nil, err
}

// redirect sends the browser to a page of this site. path is always written in the code, never taken from a request
// (open redirect).
func (p *Pages) redirect(w http.ResponseWriter, r *http.Request, path string) error {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, p.Site.Path(path), http.StatusSeeOther)
	return nil
}

// later runs f after the answer has gone, so that its time tells a stranger nothing. It fails when too much is waiting.
func (p *Pages) later(ctx context.Context, f func(ctx context.Context) error) error {
	select {
	case p.behindSeat <- struct{}{}:
	default:
		return identity.ErrBusy
	}
	ctx = context.WithoutCancel(ctx)
	p.behind.Go(func() {
		defer func() { <-p.behindSeat }()
		if err := f(ctx); err != nil {
			p.Log.ErrorContext(ctx, "work behind an answer failed", "err", err)
		}
	})
	return nil
}

// Wait returns when the work behind all answers so far is done; call it before the mail queue is closed.
func (p *Pages) Wait() { p.behind.Wait() }

func (p *Pages) home(w http.ResponseWriter, r *http.Request) error {
	return p.redirect(w, r, "/account")
}

func (p *Pages) unknown(http.ResponseWriter, *http.Request) error { return errUnknownPage }
