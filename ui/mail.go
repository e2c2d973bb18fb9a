package ui

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// letter is one mail before its words are put together. Its texts are "mail.NAME.subject", ".text" and, if there is more to say, ".after".
//
// No letter repeats what somebody typed, names above all: whoever signs up with another person's address would otherwise
// write to them under our name (phishing by content injection). Addresses are the exception, where the letter is about one.
type letter struct {
	name string
	link string        // the page to open
	life time.Duration // how long the link works, if its text says so
	act  []string      // what was done, when and where, and what to do if it was a stranger
}

// mailVerify asks the holder of an address to confirm it.
func (p *Pages) mailVerify(ctx context.Context, u identity.User, link string) error {
	return p.post(ctx, u.Email, p.localeFor(ctx, u), letter{name: "verify", link: link, life: p.People.LinkLife(identity.Verify)})
}

// mailReset brings the link for a forgotten password.
func (p *Pages) mailReset(ctx context.Context, u identity.User, link string) error {
	return p.post(ctx, u.Email, p.localeFor(ctx, u), letter{name: "reset", link: link, life: p.People.LinkLife(identity.Reset)})
}

// mailAccountExists answers whoever wants to use an address that has an account: only its holder learns that.
func (p *Pages) mailAccountExists(ctx context.Context, u identity.User) error {
	return p.post(ctx, u.Email, p.localeFor(ctx, u), letter{name: "account_exists", link: p.Site.URL("/login")})
}

// mailNewAddress asks the holder of a new address to confirm that it takes the place of u's old one.
func (p *Pages) mailNewAddress(ctx context.Context, u identity.User, to, link string) error {
	return p.post(ctx, to, p.localeFor(ctx, u), letter{name: "new_address", link: link, life: p.People.LinkLife(identity.ChangeEmail)})
}

// mailAddressChanged tells the old address, so that a thief cannot move an account away unseen.
func (p *Pages) mailAddressChanged(ctx context.Context, old string, u identity.User, dev identity.Device) error {
	// No link to a new password: it would go to the new address.
	l := p.localeFor(ctx, u)
	return p.post(ctx, old, l, letter{name: "address_changed", act: []string{p.act(l, u, dev)}})
}

// mailPasswordChanged tells a person that there is a new password.
func (p *Pages) mailPasswordChanged(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "password_changed", u, dev)
}

// mailTwoStepOn tells a person that signing in now takes a code.
func (p *Pages) mailTwoStepOn(ctx context.Context, u identity.User, dev identity.Device) error {
	app, err := p.People.TOTPAct(ctx, u.ID)
	if err != nil {
		return err
	}
	return p.added(ctx, "two_step_on", u, dev, app)
}

// mailTwoStepOff tells a person that the password alone is enough again.
func (p *Pages) mailTwoStepOff(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "two_step_off", u, dev)
}

// mailNewCodes tells a person that the old recovery codes are void.
func (p *Pages) mailNewCodes(ctx context.Context, u identity.User, dev identity.Device) error {
	return p.notice(ctx, "new_codes", u, dev)
}

// notice tells of a change to an account, so that its owner can judge whose it was.
func (p *Pages) notice(ctx context.Context, name string, u identity.User, dev identity.Device) error {
	l := p.localeFor(ctx, u)
	return p.post(ctx, u.Email, l, letter{name: name, act: []string{p.act(l, u, dev), l.text("mail.not_you")}, link: p.Site.URL("/forgot")})
}

// act says when a change was made, with what and from where.
func (p *Pages) act(l *locale, u identity.User, dev identity.Device) string {
	place := l.text("mail.place.unknown")
	if dev.Address.IsValid() {
		place = dev.Address.String()
		if known := p.place(l, dev.Address); known != "" {
			place = l.text("mail.place.known", place, known)
		}
	}
	return l.text("mail.act", l.moment(p.Now(), u.Preferences.Zone), l.device(dev.UserAgent), place)
}

// post puts the words together and hands the letter over. Mail is a Queue in production, so that this takes no time.
func (p *Pages) post(ctx context.Context, to string, in *locale, l letter) error {
	content := struct {
		Greeting          string
		Paragraphs, After []string
		Link, Brand, Home string
	}{
		Greeting: in.text("mail.greeting"), Link: l.link, Brand: p.Name, Home: p.Site.URL("/account"),
		Paragraphs: []string{in.text("mail." + l.name + ".text")},
	}
	if key := "mail." + l.name + ".after"; l.life > 0 {
		content.After = append(content.After, in.text(key, in.span(l.life)))
	} else if after, ok := in.texts[key]; ok {
		content.After = append(content.After, after)
	}
	content.Paragraphs = append(content.Paragraphs, l.act...)
	var text strings.Builder
	if err := p.letter.Execute(&text, content); err != nil {
		return err
	}
	return p.Mail.Send(ctx, mail.Message{To: to, Subject: in.text("mail."+l.name+".subject", p.Name), Text: text.String()})
}

// deviceOf says where a request comes from.
func deviceOf(r *http.Request) identity.Device {
	return identity.Device{UserAgent: r.UserAgent(), Address: web.Address(r.Context())}
}
