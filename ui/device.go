package ui

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// deviceCodeTries bounds the codes that one address may try per deviceCodeWindow (RFC 8628 §5.1).
const (
	deviceCodeTries  = 10
	deviceCodeWindow = 5 * time.Minute
)

type devicePage struct {
	Code   string
	Filled bool // the code came by a link, for the person to compare
	Errors identity.FieldErrors
}

// devicePage asks for the code that a device shows. A link may bring it along, but never decides: the person compares it.
func (p *Pages) devicePage(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	code := q.value("user_code")
	if len(code) > 32 {
		code = ""
	}
	return p.render(w, r, view{Name: "device", Content: devicePage{Code: code, Filled: code != ""}})
}

// device takes the code and leads to the sign-in and the decision.
func (p *Pages) device(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	f, err := readForm(r)
	if err != nil {
		return err
	}
	if err := p.limit(ctx, "device", deviceCodeTries, deviceCodeWindow); err != nil {
		return err
	}
	code := f.trimmed("user_code")
	id, err := p.OAuth.BeginDevice(ctx, code)
	if errors.Is(err, db.ErrNotFound) {
		page := devicePage{Code: code, Errors: identity.FieldErrors{"user_code": "device.no_such"}}
		if code == "" {
			page.Errors["user_code"] = identity.KeyRequired
		}
		return p.render(w, r, view{Name: "device", Status: http.StatusUnprocessableEntity, Content: page})
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, p.OAuth.ResumePath(id), http.StatusSeeOther)
	return nil
}

type deviceDonePage struct{ Denied bool }

func (p *Pages) deviceDonePage(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	return p.render(w, r, view{Name: "device_done", Content: deviceDonePage{Denied: q.value("n") == "denied"}})
}

// consentDevice is what the consent page says about a device that asks, so that a person notices when it is not theirs
// (RFC 8628 §5.4).
type consentDevice struct {
	Code, Message, Browser, Address, Place, Since string
}

func (p *Pages) consentDevice(l *locale, d *oauth.Device, zone string) *consentDevice {
	if d == nil {
		return nil
	}
	shown := &consentDevice{Code: d.UserCode, Message: d.Message, Address: d.Address, Since: l.when(d.CreatedAt, p.Now(), zone)}
	if d.UserCode != "" { // an app has no browser: from where its server asks says nothing
		shown.Browser = l.device(d.Browser)
	}
	if a, err := netip.ParseAddr(d.Address); err == nil {
		shown.Place = p.place(l, a)
	}
	return shown
}
