package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// visit is what brings a person to a sign-in page: the query, the interaction in it if an app sent them, and the session
// if they have one.
type visit struct {
	ID          string // of the interaction; empty without one
	Interaction oauth.Interaction
	Query       form
	Session     identity.Session
	SignedIn    bool
	via         identity.Via // what the sign-in carries along
}

// visit reads what a request brings. An interaction that is over is an error with its page.
func (p *Pages) visit(r *http.Request) (visit, error) {
	q, err := readQuery(r)
	if err != nil {
		return visit{}, err
	}
	return p.visitTo(r, q.value("i"), q)
}

// visitTo is visit for a page to which the query brings no interaction.
func (p *Pages) visitTo(r *http.Request, id string, q form) (v visit, err error) {
	v = visit{ID: id, Query: q}
	if v.Session, v.SignedIn, err = p.session(r); err != nil || v.ID == "" {
		return v, err
	}
	v.Interaction, err = p.OAuth.Interaction(r.Context(), v.ID, v.Session.UserID)
	if err != nil {
		return visit{}, expired(err)
	}
	learn(r.Context(), func(a *audience) { a.app = uiLocales(v.Interaction.UILocales) })
	return v, nil
}

// show renders a page of a visit.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, v visit, page view) error {
	page.AppScheme = v.Interaction.AppScheme
	if a := v.app(); a != nil {
		page.ImageURL = a.Logo
	}
	return p.render(w, r, page)
}

// app is what a page says about the app that asks. All of it is the app's own text: templates escape it, webURL holds its links.
type app struct {
	Name                         string
	Owner                        string
	Site                         string // host of its website
	Logo, SiteURL, Policy, Terms string
}

// app describes the app of the interaction, nil without one.
func (v visit) app() *app {
	if v.ID == "" {
		return nil
	}
	a := describe(v.Interaction.Client)
	if x := v.Interaction.Stranger; x != nil && !x.Approved { // a picture and a link could be anybody's
		a.Logo, a.Site, a.SiteURL, a.Owner, a.Policy, a.Terms = "", "", "", "", "", ""
	}
	return a
}

func describe(c oauth.Client) *app {
	a := &app{Name: c.Name, Owner: c.Owner, Logo: webURL(c.LogoURI), SiteURL: webURL(c.ClientURI), Policy: webURL(c.PolicyURI), Terms: webURL(c.TOSURI)}
	if a.Name == "" {
		a.Name = c.ID
	}
	if u, err := url.Parse(a.SiteURL); err == nil {
		a.Site = u.Host
	}
	return a
}

// onward goes where a signed-in person is headed: back to the app's request, or into the account.
//
// Chromium holds every redirect after a form was posted to the form-action of the form's page, and so also where the app
// sends the person on to, which no policy of ours can name. A page that moves on by itself ends the chain. Not so for a
// program with a scheme of its own: no site follows it, and phones start it only from what a person has just pressed.
func (p *Pages) onward(w http.ResponseWriter, r *http.Request, v visit, s identity.Session) error {
	switch {
	case v.ID != "" && v.Interaction.AppScheme != "":
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, p.OAuth.ResumePath(v.ID), http.StatusSeeOther)
		return nil
	case v.ID != "":
		next := p.OAuth.ResumePath(v.ID)
		return p.render(w, r, view{Name: "onward", Refresh: next, Content: onwardPage{next}})
	case s.MustChangePassword:
		return p.redirect(w, r, "/password/new")
	case v.via.Next != "":
		return p.redirect(w, r, places[v.via.Next])
	case p.RequireVerifiedEmail && !s.EmailVerified:
		return p.redirect(w, r, "/verify")
	}
	missing, err := p.People.MissingAttributes(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return p.redirect(w, r, "/attributes")
	}
	return p.redirect(w, r, "/account")
}

// onwardPage shows its link only to those whose browser does not move on by itself.
type onwardPage struct{ Next string }

// enter signs a person in who has proven everything they must, and goes onward. The session token always changes (session
// fixation); u is the person as the password was checked. The session goes on under its id if it was the same person's, and ends if it was another's.
func (p *Pages) enter(w http.ResponseWriter, r *http.Request, v visit, u identity.User, amr []string) error {
	ctx := r.Context()
	// Whoever's domain signs in elsewhere comes by that provider, whatever else they have set up: a passkey or another provider must not
	// outlive what the company has closed. To link both, they have just come from there.
	if to, required, _ := p.routed(u.Email); required && v.via.Provider != to.ID && v.via.Connect == "" {
		p.Site.ClearLoginTicket(w, v.ID)
		trip, wish := p.signInTrip(v, to.ID, u.Email)
		return p.setOut(w, r, trip, wish)
	}
	if u.Status == identity.StatusClosing {
		return p.askToKeep(w, r, v, u, amr)
	}
	token, s, err := p.People.StartSessionVia(ctx, v.via, u.ID, amr, deviceOf(r), p.Site.SessionToken(r), u.PasswordChangedAt)
	if errors.Is(err, identity.ErrNotFound) { // disabled, erased or given another password in this very moment
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	if err != nil {
		return err
	}
	if v.via.Provider != "" {
		if err := p.asked(ctx, s, v.via.ProvenAt); err != nil {
			return err
		}
	}
	p.Site.SetSessionToken(w, token, s.ExpiresAt)
	p.Site.ClearLoginTicket(w, v.ID)
	if v.via.Connect != "" {
		if err := p.connected(w, r, v, u); err != nil {
			return err
		}
	}
	if slices.Contains(v.Interaction.Prompt, "select_account") { // signing in by name is a choice of account
		if err := p.OAuth.SelectAccount(ctx, v.ID, s); err != nil {
			return expired(err)
		}
	}
	return p.onward(w, r, v, s)
}

// leave ends the session of this browser.
func (p *Pages) leave(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := p.People.EndSession(r.Context(), s.UserID, s.ID); err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	p.Site.ClearSessionToken(w)
	return nil
}

// expired turns "no such interaction" into its page, which leads back to the app if that is known.
func expired(err error) error {
	var over *oauth.InteractionOver
	if errors.As(err, &over) {
		page := *errExpired
		if a := describe(over.Client); a.Name != "" {
			page.app = a
		}
		return &page
	}
	if errors.Is(err, db.ErrNotFound) {
		return errExpired
	}
	return err
}

// began is the value of a login cookie that marks a browser in which an interaction went off to the mailbox. It is no ticket.
const began = "began"

// markBrowser lets a link from a mail go on with the interaction if it is opened in the browser where that began; in
// another one the app would not recognise the person.
func (p *Pages) markBrowser(w http.ResponseWriter, v visit) {
	if v.ID != "" {
		p.Site.SetLoginTicket(w, v.ID, began, p.Now().Add(time.Hour))
	}
}

// resumable gives the interaction named in a mail's link if it is alive and began in this browser, else "".
func (p *Pages) resumable(r *http.Request, id string) string {
	if id == "" || p.Site.LoginTicket(r, id) == "" {
		return ""
	}
	in, err := p.OAuth.Interaction(r.Context(), id, "")
	if err != nil {
		return ""
	}
	learn(r.Context(), func(a *audience) { a.app = uiLocales(in.UILocales) })
	return id
}

// addressLife is how long an e-mail address is kept for the pages that follow.
const addressLife = 24 * time.Hour

// remember keeps an e-mail address for the next pages, so that it never stands in a URL.
func (p *Pages) remember(ctx context.Context, email string) (handle string, err error) {
	handle = rand.Text()
	return handle, p.Cache.Put(ctx, "ui:address:"+handle, []byte(email), addressLife)
}

// recall gives the address of a handle, or "".
func (p *Pages) recall(ctx context.Context, handle string) (string, error) {
	if handle == "" || len(handle) > 64 {
		return "", nil
	}
	email, _, err := p.Cache.Get(ctx, "ui:address:"+handle)
	return string(email), err
}

// widerShare is how many times the limit of one address its neighbours together may use.
const widerShare = 4

// limit spends one of n per window for the client's address, and one of more for the network around it, or gives a
// *identity.LimitError. Nothing is blocked for good: the counts run out by themselves.
func (p *Pages) limit(ctx context.Context, what string, n int, window time.Duration) error {
	wait, err := p.Cache.Allow(ctx, "ui:"+what+":"+web.Network(ctx), n, window)
	if err == nil && wait == 0 {
		wait, err = p.Cache.Allow(ctx, "ui:"+what+"-wide:"+web.WiderNetwork(ctx), n*widerShare, window)
	}
	if err != nil {
		return err
	}
	if wait > 0 {
		return &identity.LimitError{RetryAfter: wait}
	}
	return nil
}

// mailsPerHour bounds what strangers can send into one mailbox (mail bombing).
const mailsPerHour = 5

// mayMail reports whether one more mail may go to an address. Beyond the limit pages look as if it had gone, since whether
// there is anybody to write to is not for strangers to know. All spellings of an address share its mailbox.
func (p *Pages) mayMail(ctx context.Context, email string) (bool, error) {
	wait, err := p.Cache.Allow(ctx, "ui:mail:"+mailbox(email), mailsPerHour, time.Hour)
	return wait == 0, err
}
