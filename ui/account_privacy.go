package ui

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// exportsPerDay bounds how often a person may have their data put together.
const exportsPerDay = 5

// privacyRoutes are what the law gives people: to see what is held about them, to take it away, to be erased. They ask for no
// confirmed address. What tells or ends much asks for a fresh proof.
func (p *Pages) privacyRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/privacy", Handler: p.signedIn(p.privacyPage)},
		{Pattern: "POST /account/privacy/export", Handler: p.freshly("privacy", p.askExport)},
		{Pattern: "POST /account/privacy/download", Handler: p.freshly("privacy", p.download)},
		{Pattern: "GET /account/privacy/delete", Handler: p.freshly("delete", p.deletePage)},
		{Pattern: "POST /account/privacy/delete", Handler: p.freshly("delete", p.deleteAccount)},
	}
}

type privacyPage struct {
	Done     string
	Person   string
	Export   *exportRow // nil: none was asked for
	Consents []consentRow
}

type exportRow struct {
	ID          string
	Ready       bool
	Done, Parts int
	Progress    string // in words; empty before anything is done
	Until       string
}

type consentRow struct {
	Name    string
	May     []string
	Since   string
	Changed string // empty: never since
	Wording string // version of the text
}

func (p *Pages) privacyPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	ctx := r.Context()
	u, err := p.People.User(ctx, s.UserID)
	if err != nil {
		return err
	}
	page, l := privacyPage{Done: done(r), Person: s.UserID}, p.locale(ctx)
	switch e, err := p.People.Export(ctx, u.ID); {
	case err == nil:
		page.Export = &exportRow{ID: e.ID, Ready: e.Ready(), Done: e.Done, Parts: e.Parts, Until: l.moment(e.ExpiresAt, u.Preferences.Zone)}
		if e.Parts > 0 {
			page.Export.Progress = l.text("account_privacy.working.parts", e.Done, e.Parts)
		}
	case !errors.Is(err, identity.ErrNotFound):
		return err
	}
	consents, err := p.OAuth.Consents.List(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, c := range consents {
		row := consentRow{Name: c.ClientID, Since: l.moment(c.GrantedAt, u.Preferences.Zone), Wording: c.TextVersion}
		if client, err := p.OAuth.Clients.Get(ctx, c.ClientID); err == nil && client.Name != "" {
			row.Name = client.Name
		}
		if !c.UpdatedAt.Equal(c.GrantedAt) {
			row.Changed = l.moment(c.UpdatedAt, u.Preferences.Zone)
		}
		scopes, apis := oauth.ConsentParts(c.Scopes)
		for _, api := range apis {
			row.May = append(row.May, l.text("consent.api", api))
		}
		for _, scope := range scopes {
			if words, ok := l.texts["scope."+scope]; ok {
				scope = words
			}
			row.May = append(row.May, scope)
		}
		page.Consents = append(page.Consents, row)
	}
	return p.render(w, r, view{Name: "account_privacy", Content: page, Wide: true, Nav: "privacy"})
}

func (p *Pages) askExport(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	wait, err := p.Cache.Allow(r.Context(), "ui:export:"+s.UserID, exportsPerDay, 24*time.Hour)
	if err != nil {
		return err
	}
	if wait > 0 {
		return &identity.LimitError{RetryAfter: wait}
	}
	if err := p.People.AskExport(r.Context(), s.UserID); err != nil {
		return err
	}
	if err := p.later(r.Context(), p.makeExports); err != nil && !errors.Is(err, identity.ErrBusy) { // TendPrivacy makes it then
		return err
	}
	return p.redirect(w, r, "/account/privacy?done=export")
}

// makeExports makes the files that people have asked for, one after the other: each is in memory while it is made.
func (p *Pages) makeExports(ctx context.Context) error {
	p.exporting.Lock()
	defer p.exporting.Unlock()
	for {
		e, err := p.People.ClaimExport(ctx)
		if errors.Is(err, identity.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.makeExport(ctx, e); err != nil && !errors.Is(err, identity.ErrNotFound) { // the person or the wish is gone
			return err
		}
	}
}

func (p *Pages) makeExport(ctx context.Context, e identity.Export) error {
	var file bytes.Buffer
	archive := Archive{People: p.People, Consents: p.OAuth.Consents, Grants: p.OAuth.Grants, Clients: p.OAuth.Clients, Outbox: p.OAuth.Outbox, Requests: p.OAuth.Requests(), Audit: p.Audit, Now: p.Now}
	if err := archive.Write(ctx, e.UserID, &file, func(done, parts int) error { return p.People.AdvanceExport(ctx, e, done, parts) }); err != nil {
		return err
	}
	expires, err := p.People.FinishExport(ctx, e, file.Bytes())
	if err != nil {
		return err
	}
	u, err := p.People.User(ctx, e.UserID)
	if err != nil {
		return err
	}
	return p.mailExportReady(ctx, u, expires)
}

// download hands a finished file to the person it is about. It is a POST, so that neither a prefetching browser nor a link on
// another site fetches it.
func (p *Pages) download(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	file, err := p.People.OpenExport(r.Context(), s.UserID, f.value("export"))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="account-data.zip"`)
	h.Set("Content-Length", strconv.Itoa(len(file)))
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(file) // a browser that has gone away is no error of ours
	return nil
}

type deletePage struct {
	Person string
	Email  string
	Until  string
	Errors identity.FieldErrors
}

func (p *Pages) deletePage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.showDelete(w, r, u, nil)
}

func (p *Pages) showDelete(w http.ResponseWriter, r *http.Request, u identity.User, problems identity.FieldErrors) error {
	until := p.locale(r.Context()).moment(p.Now().Add(p.People.ErasureGrace()), u.Preferences.Zone)
	v := view{Name: "account_delete", Wide: true, Nav: "privacy", Content: deletePage{Person: u.ID, Email: u.Email, Until: until, Errors: problems}}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// deleteAccount closes the account. Typing the address is no proof of anything; it keeps a slip of the hand from ending an account.
func (p *Pages) deleteAccount(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	typed := f.trimmed("email")
	if normal, ok := identity.NormalEmail(typed); ok {
		typed = normal
	}
	switch {
	case typed == "":
		return p.showDelete(w, r, u, identity.FieldErrors{"email": identity.KeyRequired})
	case !strings.EqualFold(typed, u.Email):
		return p.showDelete(w, r, u, identity.FieldErrors{"email": "account_delete.wrong"})
	}
	due, err := p.People.AskErasure(r.Context(), u.ID, s.ID, false)
	switch {
	case errors.Is(err, identity.ErrLastAdmin):
		return p.showDelete(w, r, u, identity.FieldErrors{"": "account_delete.last_admin"})
	case errors.Is(err, identity.ErrNotFound): // the session ended in this very moment
		return p.redirect(w, r, "/login")
	case err != nil:
		return err
	}
	p.sent(r, p.mailErasureAsked(r.Context(), u, due, deviceOf(r)))
	p.Site.ClearSessionToken(w)
	return p.render(w, r, view{Name: "account_closed", Content: p.locale(r.Context()).moment(due, u.Preferences.Zone)})
}

// closing stands for an interaction in the login of somebody whose account is closing. No interaction has this id.
const closing = "closing"

// askToKeep takes somebody who has proven everything a sign-in takes, but whose account is closing, to the page that offers to keep
// it. There is no session before they have chosen that: every door that asks for one stays shut.
func (p *Pages) askToKeep(w http.ResponseWriter, r *http.Request, v visit, u identity.User, amr []string) error {
	ticket, expires, err := p.People.BeginLogin(r.Context(), identity.Login{UserID: u.ID, AMR: amr, StartedAt: p.Now(), Interaction: closing, Via: v.via})
	if err != nil {
		return err
	}
	p.Site.ClearLoginTicket(w, v.ID)
	p.Site.SetLoginTicket(w, closing, ticket, expires)
	return p.redirect(w, r, "/closing")
}

// closingLogin is pendingLogin for the closing account whose holder askToKeep sent here.
func (p *Pages) closingLogin(r *http.Request) (ticket string, l identity.Login, u identity.User, ok bool, err error) {
	ticket, l, u, ok, err = p.pendingLogin(r, visit{ID: closing})
	return ticket, l, u, ok && u.Status == identity.StatusClosing, err
}

func (p *Pages) closingPage(w http.ResponseWriter, r *http.Request) error {
	_, _, u, ok, err := p.closingLogin(r)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, "/login")
	}
	due, err := p.People.ErasureDue(r.Context(), u.ID)
	if err != nil {
		return err
	}
	return p.render(w, r, view{Name: "account_closing", Content: p.locale(r.Context()).moment(due, u.Preferences.Zone)})
}

// keep calls the erasure off and signs the person in.
func (p *Pages) keep(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	ticket, l, u, ok, err := p.closingLogin(r)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, "/login")
	}
	if err := p.People.EndLogin(ctx, ticket); err != nil {
		return err
	}
	p.Site.ClearLoginTicket(w, closing)
	if err := p.People.CancelErasure(ctx, u.ID); errors.Is(err, identity.ErrNotFound) { // too late
		return p.redirect(w, r, "/login?n=timeout")
	} else if err != nil {
		return err
	}
	p.sent(r, p.mailErasureCancelled(ctx, u, deviceOf(r)))
	token, s, err := p.People.StartSessionVia(ctx, l.Via, u.ID, l.AMR, deviceOf(r), p.Site.SessionToken(r), u.PasswordChangedAt)
	if errors.Is(err, identity.ErrNotFound) {
		return p.redirect(w, r, "/login?n=timeout")
	}
	if err != nil {
		return err
	}
	p.Site.SetSessionToken(w, token, s.ExpiresAt)
	return p.redirect(w, r, "/account?done=kept")
}

// TendPrivacy makes files of data that nobody is making, after a crash for instance, and tells people whose accounts an
// administrator has closed. serve calls it each minute.
func (p *Pages) TendPrivacy(ctx context.Context) error {
	err := p.makeExports(ctx)
	people, failed := p.People.UntoldErasures(ctx)
	err = errors.Join(err, failed)
	for _, u := range people {
		due, failed := p.People.ErasureDue(ctx, u.ID)
		if failed == nil {
			failed = p.mailErasureAsked(ctx, u, due, identity.Device{})
		}
		if !errors.Is(failed, identity.ErrNotFound) { // enabled again
			err = errors.Join(err, failed)
		}
	}
	return err
}

// EraseDue erases people whose grace period is over and sends each a last mail. serve calls it every few minutes.
func (p *Pages) EraseDue(ctx context.Context) error {
	erased, err := p.People.EraseDue(ctx)
	for _, u := range erased {
		if u.Email != "" {
			err = errors.Join(err, p.mailErased(ctx, u))
		}
	}
	return err
}

// mailExportReady tells a person that the file with their data can be fetched.
func (p *Pages) mailExportReady(ctx context.Context, u identity.User, until time.Time) error {
	l := p.localeFor(ctx, u)
	return p.post(ctx, u.Email, l, letter{
		name: "export_ready", act: []string{l.text("mail.export_until", l.moment(until, u.Preferences.Zone))}, link: p.Site.URL("/account/privacy"),
	})
}

// mailErasureAsked tells a person that their account is closed and when it is erased.
func (p *Pages) mailErasureAsked(ctx context.Context, u identity.User, due time.Time, dev identity.Device) error {
	l := p.localeFor(ctx, u)
	act := []string{l.text("mail.erasure_day", l.moment(due, u.Preferences.Zone))}
	if dev != (identity.Device{}) {
		act = append([]string{p.act(l, u, dev)}, act...)
	}
	return p.post(ctx, u.Email, l, letter{name: "erasure_asked", act: act, link: p.Site.URL("/login")})
}

// mailErasureCancelled tells a person that the account stays.
func (p *Pages) mailErasureCancelled(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "erasure_cancelled", u, dev)
}

// mailErased is the last mail to a person.
func (p *Pages) mailErased(ctx context.Context, u identity.User) error {
	return p.post(ctx, u.Email, p.localeFor(ctx, u), letter{name: "erased"})
}
