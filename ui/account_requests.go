package ui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type requestsPage struct {
	Done     string
	Failed   string // locale key of what went wrong
	Person   string
	Requests []requestRow
	Muted    []mutedRow
}

// requestRow is what an app asks that has no browser of the person (CIBA).
type requestRow struct {
	ID, ClientID, Name, Owner string
	Message                   string // of the app: the person compares it
	Scopes                    []scopeWords
	Since, Until              string
}

type mutedRow struct{ ID, Name string }

func (p *Pages) requestRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/requests", Handler: p.member(p.requestsPage)},
		{Pattern: "POST /account/requests/open", Handler: p.member(p.openRequest)},
		// To say no takes no more than being signed in.
		{Pattern: "POST /account/requests/deny", Handler: p.signedIn(p.changeRequest("request_denied", "request", p.denyRequest))},
		{Pattern: "POST /account/requests/mute", Handler: p.signedIn(p.changeRequest("request_muted", "client", p.muteApp))},
		{Pattern: "POST /account/requests/unmute", Handler: p.member(p.changeRequest("request_unmuted", "client", p.unmuteApp))},
	}
}

func (p *Pages) requestsPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	waiting, err := p.OAuth.Waiting(r.Context(), u.ID)
	if err != nil {
		return err
	}
	muted, err := p.OAuth.MutedApps(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page, l, now, zone := requestsPage{Done: done(r), Person: u.ID}, p.locale(r.Context()), p.Now(), u.Preferences.Zone
	if r.URL.Query().Get("done") == "request_gone" {
		page.Failed = "account_requests.gone"
	}
	for _, one := range waiting {
		row := requestRow{
			ID: one.ID, ClientID: one.Client.ID, Name: one.Client.Name, Owner: one.Client.Owner, Message: one.Message,
			Since: l.when(one.AskedAt, now, zone), Until: l.moment(one.ExpiresAt, zone),
		}
		for _, scope := range one.Scopes {
			words, ok := l.texts["scope."+scope]
			if !ok {
				words = scope
			}
			row.Scopes = append(row.Scopes, scopeWords{Name: scope, Words: words})
		}
		page.Requests = append(page.Requests, row)
	}
	for _, c := range muted {
		page.Muted = append(page.Muted, mutedRow{c.ID, c.Name})
	}
	return p.render(w, r, view{Name: "account_requests", Content: page, Wide: true, Nav: "requests"})
}

// openRequest leads to the decision, with whatever the app demands of the sign-in on the way.
func (p *Pages) openRequest(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	id, err := p.OAuth.BeginRequest(r.Context(), s.UserID, f.value("request"))
	if errors.Is(err, db.ErrNotFound) {
		return p.redirect(w, r, "/account/requests?done=request_gone")
	}
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, p.OAuth.ResumePath(id), http.StatusSeeOther)
	return nil
}

// changeRequest changes something of the person who asks. What is anybody else's is unknown; so is what is over.
func (p *Pages) changeRequest(done, field string, change func(ctx context.Context, s identity.Session, id string) error) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		f, err := readForm(r)
		if err != nil {
			return err
		}
		err = change(r.Context(), s, f.value(field))
		if errors.Is(err, db.ErrNotFound) {
			return p.redirect(w, r, "/account/requests?done=request_gone")
		}
		if err != nil {
			return err
		}
		return p.redirect(w, r, "/account/requests?done="+done)
	}
}

func (p *Pages) denyRequest(ctx context.Context, s identity.Session, id string) error {
	return p.OAuth.DenyRequest(ctx, s, id)
}

func (p *Pages) muteApp(ctx context.Context, s identity.Session, id string) error {
	return p.OAuth.MuteApp(ctx, s, id)
}

func (p *Pages) unmuteApp(ctx context.Context, s identity.Session, id string) error {
	return p.OAuth.UnmuteApp(ctx, s, id)
}

// requestMails bounds the mails about requests to one person per requestMailWindow; the account page shows all of them.
const (
	requestMails      = 3
	requestMailWindow = 15 * time.Minute
)

// MailRequest tells a person that an app waits for their answer. It takes no time and never fails: the request waits on the account
// page in any case.
func (p *Pages) MailRequest(ctx context.Context, u identity.User, c oauth.Client) {
	if !u.EmailVerified { // it may be somebody else's
		return
	}
	err := p.later(ctx, func(ctx context.Context) error {
		wait, err := p.Cache.Allow(ctx, "ui:request-mail:"+u.ID, requestMails, requestMailWindow)
		if err != nil || wait > 0 {
			return err
		}
		l := p.localeFor(ctx, u)
		return p.post(ctx, u.Email, l, letter{
			// The name is the operator's, not the app's: apps that registered themselves cannot ask in this way.
			name: "request", act: []string{l.text("mail.request.app", c.Name, l.moment(p.Now(), u.Preferences.Zone))}, link: p.Site.URL("/account/requests"),
		})
	})
	if err != nil {
		p.Log.WarnContext(ctx, "person not told of a request", "client_id", c.ID, "err", err)
	}
}
