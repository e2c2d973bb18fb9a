package ui

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// registrationsPerHour bounds new accounts from one address unless Config.RegistrationsPerHour says otherwise; each costs a
// password hash and a mail.
const registrationsPerHour = 30

type registerPage struct {
	ID          string
	App         *app
	Name, Email string
	Strength    *strength
	Challenge   string
	Elsewhere   elsewhere
	Errors      identity.FieldErrors
}

type registerForm struct{ Name, Email, Password, Challenge string }

func readRegister(r *http.Request) (registerForm, error) {
	f, err := readForm(r)
	return registerForm{Name: f.trimmed("name"), Email: f.trimmed("email"), Password: f.value("password"), Challenge: f.value("challenge")}, err
}

// problems finds what is wrong without looking for an account.
func (p *Pages) problems(f registerForm) identity.FieldErrors {
	errs := identity.FieldErrors{}
	if _, ok := identity.NormalEmail(f.Email); !ok {
		errs["email"] = identity.KeyEmailInvalid
	}
	var weak identity.FieldErrors
	if errors.As(p.People.ValidatePassword(f.Password, f.Email, f.Name), &weak) {
		maps.Copy(errs, weak)
	}
	return errs
}

func (p *Pages) registerPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if !p.Registration {
		return errUnknownPage
	}
	if v.SignedIn && v.Interaction.Reason == "" {
		return p.onward(w, r, v, v.Session)
	}
	return p.showRegister(w, r, v, registerForm{Email: v.Interaction.LoginHint, Challenge: p.puzzle(r, signUpForm)}, nil)
}

// showRegister shows the form as f fills it; the challenge in f is the one to be met.
func (p *Pages) showRegister(w http.ResponseWriter, r *http.Request, v visit, f registerForm, errs identity.FieldErrors) error {
	content := registerPage{ID: v.ID, App: v.app(), Name: f.Name, Email: f.Email, Errors: errs, Challenge: f.Challenge, Elsewhere: p.elsewhere(v, true)}
	if len(errs) > 0 {
		content.Strength = measure(f.Password, f.Name, f.Email)
	}
	return p.show(w, r, v, view{Name: "register", Status: statusOf(errs), Content: content, Challenge: f.Challenge != ""})
}

// register creates the account, or tells the owner of an existing one by mail; the page is the same. Nobody is signed in
// here: a session at this point would tell the two apart (account enumeration).
func (p *Pages) register(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if !p.Registration {
		return errUnknownPage
	}
	f, err := readRegister(r)
	if err != nil {
		return err
	}
	if err := p.limit(ctx, "register", p.RegistrationsPerHour, time.Hour); err != nil {
		return err
	}
	if to, required, _ := p.routed(f.Email); required {
		trip, wish := p.signInTrip(v, to.ID, f.Email)
		return p.setOut(w, r, trip, wish)
	}
	// What is wrong anyhow uses up no challenge: who pays for it with patience would have to wait once more.
	if errs := p.problems(f); len(errs) > 0 {
		if f.Challenge == "" {
			f.Challenge = p.puzzle(r, signUpForm)
		}
		return p.showRegister(w, r, v, f, errs)
	}
	if problem, puzzle, err := p.met(r, signUpForm, f.Challenge); err != nil {
		return err
	} else if problem != "" {
		f.Challenge = puzzle
		return p.showRegister(w, r, v, f, identity.FieldErrors{"": problem})
	}
	u, err := p.People.Create(ctx, identity.NewUser{Email: f.Email, Password: f.Password, Profile: identity.Profile{Name: f.Name}})
	var errs identity.FieldErrors
	switch {
	case errors.As(err, &errs):
		f.Challenge = p.puzzle(r, signUpForm)
		return p.showRegister(w, r, v, f, errs)
	case errors.Is(err, identity.ErrEmailTaken):
		// The owner gets the mail at the address we know, which is not always spelled as it was typed here.
		err = p.mailOnce(ctx, f.Email, func(ctx context.Context) error {
			u, err := p.People.UserByEmail(ctx, f.Email)
			if err != nil {
				return err
			}
			return p.mailAccountExists(ctx, u)
		})
	case err == nil:
		err = p.mailOnce(ctx, f.Email, func(ctx context.Context) error { return p.sendVerification(ctx, u, v.ID) })
	}
	if err != nil {
		return err
	}
	handle, err := p.remember(ctx, f.Email)
	if err != nil {
		return err
	}
	p.markBrowser(w, v)
	return p.redirect(w, r, withInteraction("/verify?p="+handle, v.ID))
}

// mailOnce sends a mail behind the answer, unless the mailbox had its share.
func (p *Pages) mailOnce(ctx context.Context, email string, send func(ctx context.Context) error) error {
	may, err := p.mayMail(ctx, email)
	if err != nil || !may {
		return err
	}
	return p.later(ctx, send)
}

// sendVerification mails a link that proves the address. The link carries the interaction, so that it can go on.
func (p *Pages) sendVerification(ctx context.Context, u identity.User, interaction string) error {
	token, err := p.People.NewLink(ctx, u.ID, identity.Verify, u.Email)
	if err != nil {
		return err
	}
	return p.mailVerify(ctx, u, p.Site.URL(withInteraction("/verify/link?t="+url.QueryEscape(token), interaction)))
}
