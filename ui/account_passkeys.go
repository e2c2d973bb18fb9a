package ui

import (
	"context"
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// passkeyAccountRoutes are the pages on which people look after their passkeys.
func (p *Pages) passkeyAccountRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/passkeys", Handler: p.member(p.passkeysPage)},
		{Pattern: "GET /account/passkeys/new", Handler: p.confirmed(p.freshly("passkey", p.newPasskeyPage))},
		{Pattern: "POST /account/passkeys/options", Handler: p.confirmed(p.freshly("passkey", p.newPasskeyOptions))},
		{Pattern: "POST /account/passkeys/new", Handler: p.confirmed(p.freshly("passkey", p.addPasskey))},
		{Pattern: "POST /account/passkeys/rename", Handler: p.member(p.renamePasskey)},
		{Pattern: "POST /account/passkeys/remove", Handler: p.confirmed(p.freshly("passkeys", p.removePasskey))},
	}
}

type passkeysPage struct {
	Done     string
	Person   string
	Possible bool // at this server
	Passkeys []passkeyRow
	Renaming string // id of the one whose new name has Errors
	Errors   identity.FieldErrors
}

type passkeyRow struct {
	ID, Name, Added, Used string
	Synced, Copied        bool
}

func (p *Pages) passkeysPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showPasskeys(w, r, s, "", nil)
}

func (p *Pages) showPasskeys(w http.ResponseWriter, r *http.Request, s identity.Session, renaming string, problems identity.FieldErrors) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	keys, err := p.People.Passkeys(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page := passkeysPage{Done: done(r), Person: u.ID, Possible: p.People.PasskeysPossible(), Renaming: renaming, Errors: problems}
	l, now := p.locale(r.Context()), p.Now()
	for _, k := range keys {
		row := passkeyRow{ID: k.ID, Name: k.Name, Synced: k.Synced, Copied: k.Copied, Added: l.when(k.CreatedAt, now, u.Preferences.Zone)}
		if !k.UsedAt.IsZero() {
			row.Used = l.when(k.UsedAt, now, u.Preferences.Zone)
		}
		page.Passkeys = append(page.Passkeys, row)
	}
	return p.render(w, r, view{Name: "account_passkeys", Status: statusOf(problems), Content: page, Wide: true, Nav: "passkeys"})
}

type newPasskeyPage struct {
	ID     string // of the interaction to go on with
	Person string
	Name   string
	Errors identity.FieldErrors
}

// newPasskeyPage suggests the name of the browser: most passkeys live where they are made.
func (p *Pages) newPasskeyPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showNewPasskey(w, r, s, p.locale(r.Context()).device(r.UserAgent()), nil)
}

func (p *Pages) showNewPasskey(w http.ResponseWriter, r *http.Request, s identity.Session, name string, problems identity.FieldErrors) error {
	if !p.People.PasskeysPossible() {
		return p.redirect(w, r, "/account/passkeys")
	}
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	return p.render(w, r, view{Name: "account_passkey_new", Status: statusOf(problems), Wide: true, Nav: "passkeys", Content: newPasskeyPage{
		ID: query.value("i"), Person: s.UserID, Name: name, Errors: problems,
	}})
}

func enrolment(s identity.Session) identity.Ceremony {
	return identity.Ceremony{Use: identity.PasskeyEnrol, UserID: s.UserID, Scope: s.ID}
}

func (p *Pages) newPasskeyOptions(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	err := p.passkeyOptions(w, r, enrolment(s))
	if errors.Is(err, identity.ErrPasskeys) {
		return &pageError{status: http.StatusConflict, key: "error.passkeys", next: "/account/passkeys"}
	}
	return err
}

func (p *Pages) addPasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	c := enrolment(s)
	c.Browser = p.Site.BrowserSecret(r)
	added, codes, amr, err := p.People.AddPasskey(r.Context(), s, c, f.value("name"), []byte(f.value("credential")))
	var problems identity.FieldErrors
	switch {
	case errors.As(err, &problems):
		return p.showNewPasskey(w, r, s, f.value("name"), problems)
	case errors.Is(err, identity.ErrPasskey):
		return p.showNewPasskey(w, r, s, f.value("name"), identity.FieldErrors{"": "account_passkey_new.wrong"})
	case errors.Is(err, identity.ErrPasskeys):
		return &pageError{status: http.StatusConflict, key: "error.passkeys", next: "/account/passkeys"}
	case errors.Is(err, identity.ErrStale):
		return p.redirect(w, r, withInteraction("/confirm?to=passkey", query.value("i")))
	case err != nil:
		return err
	}
	p.sent(r, p.added(r.Context(), "passkey_added", u, deviceOf(r), identity.PasskeyAct(added.ID)))
	ended := 0
	if len(codes) > 0 { // the other sessions have proven one factor only, which from now on is not enough
		if ended, err = p.People.EndSessions(r.Context(), s.UserID, s.ID); err != nil {
			return err
		}
	}
	if err := p.stepUp(w, r, s, amr); err != nil {
		return err
	}
	id := query.value("i")
	if len(codes) > 0 {
		return p.render(w, r, view{Name: "account_two_step_codes", Wide: true, Nav: "passkeys", Content: codesPage{
			Codes: codes, Ended: ended > 0, Email: u.Email, Passkey: true, Next: p.resume(id),
		}})
	}
	if id != "" {
		return p.redirect(w, r, withInteraction("/step-up", id))
	}
	return p.redirect(w, r, "/account/passkeys?done=passkey_added")
}

// resume is where a person goes on who set up a factor because an app demands it; empty if none does.
func (p *Pages) resume(interaction string) string {
	if interaction == "" {
		return ""
	}
	return p.Site.Path(withInteraction("/step-up", interaction))
}

func (p *Pages) renamePasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	err = p.People.RenamePasskey(r.Context(), s.UserID, f.value("passkey"), f.value("name"))
	var problems identity.FieldErrors
	switch {
	case errors.As(err, &problems):
		return p.showPasskeys(w, r, s, f.value("passkey"), problems)
	case err != nil:
		return err
	}
	return p.redirect(w, r, "/account/passkeys?done=passkey_renamed")
}

func (p *Pages) removePasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	_, err = p.People.RemovePasskey(r.Context(), u.ID, f.value("passkey"))
	if errors.Is(err, identity.ErrLastWayIn) {
		return p.showPasskeys(w, r, s, "", identity.FieldErrors{"": "account_passkeys.last"})
	}
	if err != nil {
		return err
	}
	p.sent(r, p.mailPasskeyRemoved(r.Context(), u, deviceOf(r)))
	return p.redirect(w, r, "/account/passkeys?done=passkey_removed")
}

// mailPasskeyRemoved tells a person that a passkey no longer opens the account.
func (p *Pages) mailPasskeyRemoved(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "passkey_removed", u, dev)
}
