package ui

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// tripsAtOnce bounds how many trips to providers one network may begin per tripsWindow: each is remembered for a while.
const (
	tripsAtOnce = 60
	tripsWindow = 10 * time.Minute
)

// upstreamRoutes are the ways to a provider and back. Providers come and go while the server runs, so the routes are there for all.
func (p *Pages) upstreamRoutes() []web.Route {
	if p.Upstream == nil {
		return nil
	}
	return []web.Route{
		{Pattern: "POST /login/{provider}/start", Handler: p.startTrip},
		{Pattern: "GET /login/{provider}/callback", Handler: p.endTrip},
		{Pattern: "GET /login/connect", Handler: p.connectPage},
		{Pattern: "POST /login/connect", Handler: p.connect},
		{Pattern: "GET /account/linked", Handler: p.member(p.linkedPage)},
		{Pattern: "POST /account/linked/add", Handler: p.confirmed(p.freshly("linked", p.addLinked))},
		{Pattern: "POST /account/linked/remove", Handler: p.confirmed(p.freshly("linked", p.removeLinked))},
		{Pattern: "POST /confirm/provider", Handler: p.signedIn(p.confirmElsewhere)},
	}
}

// tripNotices are what a page may say about a trip that led nowhere, by the word in ?n=.
var tripNotices = map[string]notice{
	"denied":   {Key: "upstream.notice.denied"},
	"failed":   {Key: "upstream.notice.failed"},
	"stale":    {Key: "upstream.notice.stale"},
	"disabled": {Key: "upstream.notice.disabled"},
	"refused":  {Key: "upstream.notice.refused"},
	"taken":    {Key: "upstream.notice.taken"},
	"last":     {Key: "upstream.notice.last"},
	"linked":   {Key: "upstream.notice.linked", Good: true},
	"unlinked": {Key: "upstream.notice.unlinked", Good: true},
}

// elsewhere is what a sign-in or sign-up page offers beside its form.
type elsewhere struct {
	ID        string // of the interaction
	Providers []upstream.Provider
	Company   bool // an address may lead to a provider
	SignUp    bool // the page is the one for new accounts
}

func (p *Pages) elsewhere(v visit, signUp bool) elsewhere {
	if p.Upstream == nil {
		return elsewhere{}
	}
	e := elsewhere{ID: v.ID, Providers: p.Upstream.Providers.Buttons(), Company: p.Upstream.Providers.Routes() && !signUp, SignUp: signUp}
	if signUp {
		e.Providers = slices.DeleteFunc(e.Providers, func(n upstream.Provider) bool { return !p.maySignUp(n) })
	}
	return e
}

// maySignUp reports whether a provider's people may get an account here by signing in there.
func (p *Pages) maySignUp(n upstream.Provider) bool {
	return n.SignUp == upstream.SignUpAlways || n.SignUp == upstream.SignUpFollow && p.Registration
}

// routed gives the provider of an address's domain; required says that the person cannot sign in here by anything they typed.
func (p *Pages) routed(email string) (n upstream.Provider, required, ok bool) {
	if p.Upstream == nil {
		return n, false, false
	}
	n, ok = p.Upstream.Providers.ForAddress(email)
	return n, ok && n.Require, ok
}

// hinted gives the provider to which an app's login_hint leads at once. It does so once for a request: whoever comes back, by a
// notice or by the browser's button, must find the page and its other ways.
func (p *Pages) hinted(r *http.Request, v visit, notice string) (n upstream.Provider, ok bool, err error) {
	if v.SignedIn || v.ID == "" || notice != "" || r.Method != http.MethodGet {
		return n, false, nil
	}
	if n, _, ok = p.routed(v.Interaction.LoginHint); !ok {
		return n, false, nil
	}
	first, err := p.Cache.Add(r.Context(), "ui:hinted:"+v.ID, time.Hour)
	return n, first && err == nil, err
}

// signInTrip is a trip by which a person signs in, for the app of v or without one.
func (p *Pages) signInTrip(v visit, provider, hint string) (upstream.Trip, upstream.Wish) {
	in := v.Interaction
	trip := upstream.Trip{
		Provider: provider, Purpose: upstream.ForSignIn, Interaction: v.ID,
		Fresh: slices.Contains(in.Prompt, "login") || v.SignedIn && in.Reason != "" && in.Reason != reasonAccount,
	}
	wish := upstream.Wish{
		LoginHint: cmp.Or(hint, in.LoginHint), SelectAccount: slices.Contains(in.Prompt, "select_account") || in.Reason == reasonAccount,
	}
	if in.MaxAge != nil { // the app wants to know how old the sign-in is: the return does not tell, the provider must
		wish.MaxAge, trip.Dated = *in.MaxAge, true
		n, err := p.Upstream.Providers.Get(provider)
		trip.Fresh = trip.Fresh || *in.MaxAge == 0 || err == nil && n.TrustFresh // which says no time, and is believed if it was told to ask
	}
	return trip, wish
}

// startTrip sends a person to the provider they chose. It is a POST: another site's page can make a browser go nowhere.
func (p *Pages) startTrip(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	trip, wish := p.signInTrip(v, r.PathValue("provider"), "")
	return p.setOut(w, r, trip, wish)
}

// setOut sends the browser to a provider. Why it goes by a page that moves on by itself: see onward.
func (p *Pages) setOut(w http.ResponseWriter, r *http.Request, t upstream.Trip, wish upstream.Wish) error {
	if err := p.limit(r.Context(), "trips", tripsAtOnce, tripsWindow); err != nil {
		return err
	}
	wish.Locales = p.locale(r.Context()).Lang
	d, err := p.Upstream.Begin(r.Context(), t, wish)
	if err != nil {
		return p.astray(w, r, t, err)
	}
	p.Site.SetLoginTicket(w, d.Cookie, d.Token, d.Expires)
	if r.Method == http.MethodGet {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, d.URL, http.StatusSeeOther)
		return nil
	}
	return p.render(w, r, view{Name: "onward", Refresh: d.URL, Content: onwardPage{d.URL}})
}

// astray leads on from a trip that went wrong: the person is where they set out, and told in a line. The cause is for the log.
func (p *Pages) astray(w http.ResponseWriter, r *http.Request, t upstream.Trip, err error) error {
	word := "failed"
	switch {
	case errors.Is(err, upstream.ErrTrip):
		return &pageError{status: http.StatusBadRequest, key: "error.trip", next: "/login", err: err}
	case errors.Is(err, upstream.ErrDenied):
		word = "denied"
	case errors.Is(err, upstream.ErrStale):
		word = "stale"
	case errors.Is(err, upstream.ErrDisabled):
		word = "disabled"
	case errors.Is(err, identity.ErrCredentials):
		word = "refused"
	case errors.Is(err, identity.ErrLinked):
		word = "taken"
	case !errors.Is(err, upstream.ErrAnswer):
		return err
	}
	p.Log.WarnContext(r.Context(), "sign-in elsewhere came to nothing", "provider", t.Provider, "reason", word, "err", err)
	switch t.Purpose {
	case upstream.ForLink:
		return p.redirect(w, r, "/account/linked?n="+word)
	case upstream.ForConfirm:
		return p.redirect(w, r, "/confirm?to="+place(t.Next)+"&n="+word)
	}
	return p.redirect(w, r, withInteraction("/login?n="+word, t.Interaction))
}

// endTrip reads what a browser brings back from a provider.
func (p *Pages) endTrip(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	cookie := upstream.CookieName(q.value("state"))
	token := p.Site.LoginTicket(r, cookie)
	if token != "" {
		p.Site.ClearLoginTicket(w, cookie)
	}
	t, who, err := p.Upstream.Finish(r.Context(), r.PathValue("provider"), upstream.Return{
		Code: q.value("code"), State: q.value("state"), Issuer: q.value("iss"), Error: q.value("error"),
	}, token)
	if err != nil {
		return p.astray(w, r, t, err)
	}
	n, err := p.Upstream.Providers.Get(t.Provider)
	if err != nil {
		return p.astray(w, r, t, upstream.ErrDisabled)
	}
	if t.Purpose == upstream.ForLink {
		return p.endLinking(w, r, t, n, who)
	}
	v, err := p.visitTo(r, t.Interaction, form{})
	if err != nil {
		return err
	}
	u, err := p.People.ByLinked(r.Context(), personElsewhere(n, who))
	switch {
	case errors.Is(err, identity.ErrNotFound) && t.Purpose == upstream.ForSignIn:
		return p.stranger(w, r, v, n, who)
	case errors.Is(err, identity.ErrNotFound):
		return p.astray(w, r, t, identity.ErrCredentials)
	case err != nil:
		return p.astray(w, r, t, err)
	}
	if t.Purpose == upstream.ForConfirm {
		// Who confirms must be who is signed in: somebody else's proof is none, and must not change whose session this is.
		if !v.SignedIn || v.Session.UserID != t.UserID || v.Session.ID != t.SessionID || u.ID != t.UserID {
			return p.astray(w, r, t, identity.ErrCredentials)
		}
		v.via.Next = t.Next
	}
	if v.via.ProvenAt = who.AuthTime; t.Fresh { // it has asked during the trip
		v.via.ProvenAt = p.Now()
	}
	if err := p.People.RefreshProfile(r.Context(), u, who.Fields, n.Refresh); err != nil {
		return err
	}
	return p.arrive(w, r, v, n, who, u)
}

func personElsewhere(n upstream.Provider, who upstream.Identity) identity.Elsewhere {
	return identity.Elsewhere{Provider: n.ID, Issuer: who.Issuer, Subject: who.Subject, Label: who.Label}
}

// arrive goes on as a person whom a provider has signed in. What it says about how is believed if it is trusted for that.
func (p *Pages) arrive(w http.ResponseWriter, r *http.Request, v visit, n upstream.Provider, who upstream.Identity, u identity.User) error {
	amr := []string{identity.AMRFederated}
	if n.TrustAMR {
		for _, method := range who.AMR {
			// A key that was used over there is none of this server's: providers call pushes to a phone so, too (false phishing resistance).
			if method != identity.AMRHardware && method != identity.AMRSoftware {
				amr = append(amr, method)
			}
		}
	}
	v.via.Provider = n.ID
	if slices.Contains(amr, identity.AMRMFA) {
		return p.enter(w, r, v, u, amr)
	}
	return p.afterFirst(w, r, v, u, amr)
}

// stranger receives somebody whose account elsewhere leads nowhere yet. An address, however verified there, is no proof that an
// account here is theirs, unless the operator has said so for that provider and that domain (account takeover by linking).
func (p *Pages) stranger(w http.ResponseWriter, r *http.Request, v visit, n upstream.Provider, who upstream.Identity) error {
	ctx := r.Context()
	email, ok := identity.NormalEmail(who.Email)
	if !ok {
		who.Email, who.Verified = "", false
	} else {
		who.Email = email
	}
	who.Verified = who.Verified && n.Vouches(who.Email)
	if who.Verified {
		u, err := p.People.UserByEmail(ctx, who.Email)
		switch {
		case err == nil && n.LinkByEmail && u.EmailVerified && u.Status == identity.StatusActive:
			if err := p.link(r, u, n, who); err != nil {
				return p.astray(w, r, upstream.Trip{Provider: n.ID, Interaction: v.ID}, err)
			}
			return p.arrive(w, r, v, n, who, u)
		case errors.Is(err, identity.ErrNotFound) && p.mayCreate(n, who.Email):
			return p.signUp(w, r, v, n, who, who.Email)
		case err != nil && !errors.Is(err, identity.ErrNotFound):
			return err
		}
	}
	// No session yet, nor an account: what the provider said waits until the person has decided.
	ticket, err := p.keepGuest(ctx, guest{Provider: n.ID, Interaction: v.ID, Who: who})
	if err != nil {
		return err
	}
	p.Site.SetLoginTicket(w, guestCookie(v.ID), ticket, p.Now().Add(guestLife))
	return p.redirect(w, r, withInteraction("/login/connect", v.ID))
}

// mayCreate reports whether somebody from a provider may have an account with an address. Addresses that another provider
// answers for alone are not for it to give away.
func (p *Pages) mayCreate(n upstream.Provider, email string) bool {
	owner, required, _ := p.routed(email)
	return p.maySignUp(n) && (!required || owner.ID == n.ID)
}

// link lets the account elsewhere lead into u's and tells u by mail.
func (p *Pages) link(r *http.Request, u identity.User, n upstream.Provider, who upstream.Identity) error {
	if err := p.People.Link(r.Context(), u.ID, personElsewhere(n, who)); err != nil {
		return err
	}
	p.sent(r, p.mailLinked(r.Context(), u, deviceOf(r)))
	return nil
}

func (p *Pages) mailLinked(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.added(ctx, "linked", u, dev, identity.ActLinked)
}

func (p *Pages) mailUnlinked(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "unlinked", u, dev)
}

// signUp makes an account for somebody from a provider. With an address that the provider answers for they are in; with any other the
// answer is the same whether there is an account already, as in register.
func (p *Pages) signUp(w http.ResponseWriter, r *http.Request, v visit, n upstream.Provider, who upstream.Identity, email string) error {
	ctx := r.Context()
	if err := p.limit(ctx, "register", p.RegistrationsPerHour, time.Hour); err != nil {
		return err
	}
	verified := who.Verified && email == who.Email
	u, err := p.People.CreateLinked(ctx, identity.NewUser{Email: email, EmailVerified: verified, Profile: p.People.ProfileFrom(who.Fields)}, personElsewhere(n, who))
	switch {
	case errors.Is(err, identity.ErrLinked), verified && errors.Is(err, identity.ErrEmailTaken): // in another tab, in this very moment
		return p.redirect(w, r, withInteraction("/login", v.ID))
	case errors.Is(err, identity.ErrEmailTaken):
		err = p.mailOnce(ctx, email, func(ctx context.Context) error {
			u, err := p.People.UserByEmail(ctx, email)
			if err != nil {
				return err
			}
			return p.mailAccountExists(ctx, u)
		})
	case err == nil && verified:
		v.via.ProvenAt = p.Now() // nothing is in the account yet that needs more
		return p.arrive(w, r, v, n, who, u)
	case err == nil:
		err = p.mailOnce(ctx, email, func(ctx context.Context) error { return p.sendVerification(ctx, u, v.ID) })
	}
	if err != nil {
		return err
	}
	handle, err := p.remember(ctx, email)
	if err != nil {
		return err
	}
	p.markBrowser(w, v)
	return p.redirect(w, r, withInteraction("/verify?p="+handle, v.ID))
}

// guest is somebody from a provider who has no account here, or has not proven it yet.
type guest struct {
	Provider    string            `json:"provider"`
	Interaction string            `json:"interaction"`
	Who         upstream.Identity `json:"who"`
}

const guestLife = 15 * time.Minute

func guestCookie(interaction string) string {
	if interaction == "" {
		return "guest"
	}
	return "guest-" + interaction
}

func guestKey(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return "ui:guest:" + hex.EncodeToString(sum[:])
}

func (p *Pages) keepGuest(ctx context.Context, g guest) (ticket string, err error) {
	value, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	ticket = rand.Text() + rand.Text()
	return ticket, p.Cache.Put(ctx, guestKey(ticket), value, guestLife)
}

// guest finds who waits in this browser, and the provider they came by.
func (p *Pages) guest(r *http.Request, interaction string) (ticket string, g guest, n upstream.Provider, ok bool, err error) {
	ticket = p.Site.LoginTicket(r, guestCookie(interaction))
	if ticket == "" || len(ticket) > 64 {
		return "", g, n, false, nil
	}
	value, ok, err := p.Cache.Get(r.Context(), guestKey(ticket))
	if err != nil || !ok {
		return "", g, n, false, err
	}
	if err := json.Unmarshal(value, &g); err != nil {
		return "", g, n, false, fmt.Errorf("read guest: %w", err)
	}
	n, err = p.Upstream.Providers.Get(g.Provider)
	if errors.Is(err, db.ErrNotFound) || err == nil && (n.Disabled || g.Interaction != interaction) {
		return "", g, n, false, nil
	}
	return ticket, g, n, err == nil, err
}

type connectPage struct {
	ID       string
	App      *app
	Provider string // its name
	Label    string // who the person is there
	Email    string
	NewEmail string
	Create   bool // an account can be made

	Challenge string
	Errors    identity.FieldErrors
}

// connectPage asks somebody from a provider whether they have an account here. It knows only what the provider said, and
// so looks the same whether there is one (account enumeration).
func (p *Pages) connectPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	_, g, n, ok, err := p.guest(r, v.ID)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	page := connectPage{Email: g.Who.Email, NewEmail: g.Who.Email}
	if guarded, err := p.guarded(r.Context(), page.Email); err != nil {
		return err
	} else if guarded {
		page.Challenge = p.puzzle(r, signInForm)
	}
	return p.showConnect(w, r, v, n, g, page)
}

func (p *Pages) showConnect(w http.ResponseWriter, r *http.Request, v visit, n upstream.Provider, g guest, page connectPage) error {
	page.ID, page.App, page.Provider, page.Label = v.ID, v.app(), n.Name, g.Who.Label
	// With an address that the provider answers for there is an account, or one would have been made.
	page.Create = p.mayCreate(n, g.Who.Email) && !g.Who.Verified
	return p.show(w, r, v, view{Name: "connect", Status: statusOf(page.Errors), Content: page, Challenge: page.Challenge != ""})
}

// connect does what the person decided: prove the account they have, or make one. It takes the proof in this very form, where the
// person sees what it is for: a guest somebody else has left behind in this browser must not be linked by a sign-in that
// means something else (login CSRF).
func (p *Pages) connect(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	f, err := readForm(r)
	if err != nil {
		return err
	}
	ticket, g, n, ok, err := p.guest(r, v.ID)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	switch f.value("do") {
	case "create":
		return p.connectNew(w, r, v, f.trimmed("new-email"), ticket, g, n)
	case "prove":
	default:
		return errMalformed
	}
	login := loginForm{Email: f.trimmed("email"), Password: f.value("password")}
	errs := login.validate()
	if owner, required, _ := p.routed(login.Email); len(errs) == 0 && required && owner.ID != n.ID {
		errs["email"] = "connect.routed"
	}
	// What guards the sign-in form guards this one, for it is another.
	puzzle := f.value("challenge")
	if len(errs) == 0 {
		var problem string
		if problem, puzzle, err = p.guard(r, login.Email, puzzle); err != nil {
			return err
		} else if problem != "" {
			errs[""] = problem
		}
	}
	var u identity.User
	if len(errs) == 0 {
		u, err = p.People.CheckPassword(ctx, login.Email, login.Password, web.Address(ctx))
		if errors.Is(err, identity.ErrCredentials) {
			errs[""] = "login.wrong"
			if puzzle, err = p.failed(r, login.Email); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return p.showConnect(w, r, v, n, g, connectPage{Email: login.Email, NewEmail: g.Who.Email, Errors: errs, Challenge: puzzle})
	}
	v.via.Connect = ticket
	return p.afterFirst(w, r, v, u, []string{identity.AMRPassword})
}

func (p *Pages) connectNew(w http.ResponseWriter, r *http.Request, v visit, email, ticket string, g guest, n upstream.Provider) error {
	normal, ok := identity.NormalEmail(email)
	wrong := ""
	switch {
	case email == "":
		wrong = identity.KeyRequired
	case !ok:
		wrong = identity.KeyEmailInvalid
	case !p.mayCreate(n, normal):
		wrong = "connect.routed"
	}
	if wrong != "" {
		return p.showConnect(w, r, v, n, g, connectPage{Email: g.Who.Email, NewEmail: email, Errors: identity.FieldErrors{"new-email": wrong}})
	}
	if _, ok, err := p.Cache.Take(r.Context(), guestKey(ticket)); err != nil || !ok {
		if err == nil {
			err = p.redirect(w, r, withInteraction("/login", v.ID))
		}
		return err
	}
	p.Site.ClearLoginTicket(w, guestCookie(v.ID))
	return p.signUp(w, r, v, n, g.Who, normal)
}

// connected links the guest behind a ticket to a person who has proven everything, just now and for this. A guest who is gone is no
// error: the sign-in stands.
func (p *Pages) connected(w http.ResponseWriter, r *http.Request, v visit, u identity.User) error {
	p.Site.ClearLoginTicket(w, guestCookie(v.ID))
	value, ok, err := p.Cache.Take(r.Context(), guestKey(v.via.Connect))
	if err != nil || !ok {
		return err
	}
	var g guest
	if err := json.Unmarshal(value, &g); err != nil {
		return fmt.Errorf("read guest: %w", err)
	}
	n, err := p.Upstream.Providers.Get(g.Provider)
	if errors.Is(err, db.ErrNotFound) || err == nil && n.Disabled {
		return nil
	}
	if err != nil {
		return err
	}
	err = p.link(r, u, n, g.Who)
	if errors.Is(err, identity.ErrLinked) || errors.Is(err, db.ErrNotFound) {
		p.Log.WarnContext(r.Context(), "account elsewhere not linked", "provider", n.ID, "user_id", u.ID, "err", err)
		return nil
	}
	return err
}
