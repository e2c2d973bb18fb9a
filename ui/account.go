package ui

import (
	"net/http"
	"slices"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// accountRoutes are the pages of a person's own account. What a row asks for before its handler runs stands here, so
// that no handler can forget it: member a session, freshly a session that was proven anew within freshness.
func (p *Pages) accountRoutes() []web.Route {
	routes := []web.Route{
		{Pattern: "GET /account", Handler: p.member(p.accountPage)},
		{Pattern: "GET /account/profile", Handler: p.member(p.profilePage)},
		{Pattern: "POST /account/profile", Handler: p.member(p.saveProfile)},
		// Whoever mistyped the address when signing up mends it here, so these three ask for no confirmed address.
		{Pattern: "GET /account/email", Handler: p.freshly("email", p.emailPage)},
		{Pattern: "POST /account/email", Handler: p.freshly("email", p.askNewEmail)},
		{Pattern: "GET /account/email/link", Handler: p.emailLinkPage},
		{Pattern: "POST /account/email/link", Handler: p.signedIn(p.changeEmail)},
		{Pattern: "GET /account/password", Handler: p.member(p.passwordPage)},
		{Pattern: "POST /account/password", Handler: p.member(p.changePassword)},
		{Pattern: "GET /account/two-step", Handler: p.member(p.twoStepPage)},
		{Pattern: "GET /account/two-step/setup", Handler: p.confirmed(p.freshly("setup", p.setupPage))},
		{Pattern: "POST /account/two-step/setup", Handler: p.confirmed(p.freshly("setup", p.setUp))},
		{Pattern: "POST /account/two-step/codes", Handler: p.confirmed(p.freshly("two-step", p.newCodes))},
		{Pattern: "POST /account/two-step/off", Handler: p.confirmed(p.freshly("two-step", p.turnOff))},
		{Pattern: "GET /account/apps", Handler: p.member(p.appsPage)},
		{Pattern: "POST /account/apps/withdraw", Handler: p.member(p.withdraw)},
		{Pattern: "GET /account/sessions", Handler: p.member(p.sessionsPage)},
		{Pattern: "POST /account/sessions/end", Handler: p.member(p.endSession)},
		{Pattern: "POST /account/sessions/end-others", Handler: p.member(p.endOtherSessions)},
		{Pattern: "GET /account/activity", Handler: p.member(p.activityPage)},
		{Pattern: "POST /account/activity/not-me", Handler: p.signedIn(p.disown)},
		{Pattern: "GET /confirm", Handler: p.signedIn(p.confirmPage)},
		{Pattern: "POST /confirm", Handler: p.signedIn(p.confirm)},
	}
	routes = append(routes, p.preferencesRoutes()...)
	routes = append(routes, p.privacyRoutes()...)
	routes = append(routes, p.groupRoutes()...)
	routes = append(routes, p.passkeyAccountRoutes()...)
	if p.Inbox != nil {
		routes = append(routes,
			web.Route{Pattern: "GET /inbox", Handler: p.onThisMachine(p.inboxPage)},
			web.Route{Pattern: "GET /inbox/{n}", Handler: p.onThisMachine(p.inboxMailPage)},
		)
	}
	return routes
}

type sessionHandler = func(w http.ResponseWriter, r *http.Request, s identity.Session) error

// member is signedIn for people whose address is confirmed where that is required, and who have proven as much as the policy of the
// server demands.
func (p *Pages) member(next sessionHandler) handler {
	return p.confirmed(p.signedIn(func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		if !identity.Reaches(s.ACR(), p.SignInPolicy) {
			return p.redirect(w, r, "/step-up")
		}
		return next(w, r, s)
	}))
}

// confirmed sends people to confirm their address first, where that is required.
func (p *Pages) confirmed(next handler) handler {
	if !p.RequireVerifiedEmail {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		s, ok, err := p.session(r)
		if err != nil {
			return err
		}
		if ok && !s.EmailVerified && !s.MustChangePassword {
			return p.redirect(w, r, "/verify")
		}
		return next(w, r)
	}
}

// The notices that a page may carry after a redirect, by the word in ?done=. A word that is not here shows nothing, so
// that no link from elsewhere can put words of its own on our pages.
var accountNotices = []string{
	"group_joined", "group_declined", "group_invited", "group_uninvited", "group_removed", "passkey_added", "passkey_renamed", "passkey_removed",
	"app_off", "saved", "email_sent", "email", "password", "two_step_off", "withdrawn", "agent_paused", "agent_resumed", "agent_shrunk", "agent_limited", "agent_ended", "request_allowed", "request_denied", "request_muted", "request_unmuted", "session_ended", "sessions_ended", "confirmed", "export", "kept",
}

// done gives the locale key of the notice that a request asks for, or "".
func done(r *http.Request) string {
	if word := r.URL.Query().Get("done"); slices.Contains(accountNotices, word) {
		return "account.done." + word
	}
	return ""
}

// sent logs a notice that could not be handed to the mailer. What it tells of has happened, so it is no error of the page.
func (p *Pages) sent(r *http.Request, err error) {
	if err != nil {
		p.Log.ErrorContext(r.Context(), "notice not sent", "path", r.URL.Path, "err", err)
	}
}

type accountPage struct {
	Done      string
	Name      string // as the person wants to be called
	Email     string
	Verified  bool
	TwoStep   bool
	CodesLeft string
	FewCodes  bool // time for new recovery codes
	Password  string
	Sessions  string
	Apps      string
	Passkeys  string
	Requests  bool // an app waits for an answer
	Attention bool // something needs doing
}

// fewCodes recovery codes left are worth a warning.
const fewCodes = 3

func (p *Pages) accountPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	sessions, err := p.People.Sessions(r.Context(), u.ID)
	if err != nil {
		return err
	}
	apps, err := p.OAuth.Apps(r.Context(), u.ID)
	if err != nil {
		return err
	}
	l := p.locale(r.Context())
	page := accountPage{
		Done: done(r), Name: calledName(u), Email: u.Email, Verified: u.EmailVerified, TwoStep: u.TwoStep(),
		Sessions: l.many("account.sessions", len(sessions)),
		Apps:     l.many("account.apps", len(apps)),
	}
	if !u.PasswordChangedAt.IsZero() {
		page.Password = l.text("account.password.since", l.when(u.PasswordChangedAt, p.Now(), u.Preferences.Zone))
	}
	keys, err := p.People.Passkeys(r.Context(), u.ID)
	if err != nil {
		return err
	}
	waiting, err := p.OAuth.Waiting(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page.Requests = len(waiting) > 0
	page.Passkeys = l.many("account.passkeys", len(keys))
	if u.TwoStep() {
		left, err := p.People.RecoveryCodesLeft(r.Context(), u.ID)
		if err != nil {
			return err
		}
		page.CodesLeft, page.FewCodes = l.many("account.codes", left), left < fewCodes
	}
	page.Attention = page.Requests || !page.Verified || !page.TwoStep || page.FewCodes
	return p.render(w, r, view{Name: "account", Content: page, Wide: true, Nav: "overview"})
}

// calledName is how to greet a person; empty if the profile has no name.
func calledName(u identity.User) string {
	for _, name := range []string{u.Profile.Nickname, u.Profile.GivenName, u.Profile.Name} {
		if name != "" {
			return name
		}
	}
	return ""
}

// posted reads a form of the account and the person who sent it.
func (p *Pages) posted(r *http.Request, s identity.Session) (form, identity.User, error) {
	f, err := readForm(r)
	if err != nil {
		return form{}, identity.User{}, err
	}
	u, err := p.People.User(r.Context(), s.UserID)
	return f, u, err
}

// statusOf is the status of a page that shows a form: 422 if it came back with problems.
func statusOf(problems identity.FieldErrors) int {
	if len(problems) > 0 {
		return http.StatusUnprocessableEntity
	}
	return 0
}
