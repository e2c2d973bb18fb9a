package ui

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// notMeRoutes are where the links of notices lead, for those who did not do what the notice tells.
func (p *Pages) notMeRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /not-me", Handler: p.notMePage},
		{Pattern: "POST /not-me", Handler: p.notMe},
	}
}

type notMePage struct {
	Token string
	What  string // locale key of the act that is disowned
}

// notMeKeys says in words what a notice was about.
func notMeKeys(about identity.Act) string {
	switch {
	case about.Passkey():
		return "not_me.passkey"
	case about.TOTP():
		return "not_me.app"
	case about == identity.ActLinked:
		return "not_me.linked"
	}
	return "not_me.address"
}

// notMePage asks for the button: mail scanners open every link. It asks for no more than that, since whoever is in the account may have
// changed the password and added a second factor: the link proves the mailbox, to which the way back leads.
func (p *Pages) notMePage(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	about, err := p.People.CheckNotMeLink(r.Context(), q.value("t"))
	if err != nil {
		return p.deadLink(err, "not_me.dead", "/forgot")
	}
	return p.render(w, r, view{Name: "not_me", Content: notMePage{Token: q.value("t"), What: notMeKeys(about)}})
}

func (p *Pages) notMe(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	u, removed, err := p.People.DisownByLink(r.Context(), f.value("t"))
	if err != nil {
		return p.deadLink(err, "not_me.dead", "/forgot")
	}
	return p.disowned(w, r, u, removed)
}

// disowned sends the link for a new password and says what was done.
func (p *Pages) disowned(w http.ResponseWriter, r *http.Request, u identity.User, removed bool) error {
	ctx := r.Context()
	if _, signedIn, err := p.session(r); err == nil && !signedIn { // it ended with all the others
		p.Site.ClearSessionToken(w)
	}
	page := disownPage{Email: u.Email, Removed: removed}
	// What follows may fail: the page then says how to ask for the mail.
	may, err := p.mayMail(ctx, u.Email)
	if err == nil && may {
		err = p.later(ctx, func(ctx context.Context) error { return p.sendReset(ctx, u, "") })
		page.Mailed = err == nil
	}
	p.sent(r, err)
	return p.render(w, r, view{Name: "account_disowned", Content: page})
}

// added tells of a new way into an account, with a link by which exactly that one is taken out again.
func (p *Pages) added(ctx context.Context, name string, u identity.User, dev identity.Device, about identity.Act) error {
	return p.noticeWithLink(ctx, name, "mail.not_you_added", u, dev, about)
}

// noticeWithLink is notice with a link that undoes the act.
func (p *Pages) noticeWithLink(ctx context.Context, name, words string, u identity.User, dev identity.Device, about identity.Act) error {
	token, err := p.People.NewNotMeLink(ctx, u.ID, about)
	if err != nil {
		return err
	}
	l := p.localeFor(ctx, u)
	return p.post(ctx, u.Email, l, letter{
		name: name, act: []string{p.act(l, u, dev), l.text(words)}, link: p.Site.URL("/not-me?t=" + url.QueryEscape(token)),
	})
}

// mailAddressAsked tells the address in force that somebody wants to put another one in its place, while that can still be stopped.
func (p *Pages) mailAddressAsked(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.noticeWithLink(ctx, "address_asked", "mail.not_you_asked", u, dev, identity.ActAddress)
}
