package ui

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

type profilePage struct {
	Done          string
	Person        string
	Email         string
	EmailVerified bool
	Groups        []fieldGroup
	Zones         []string
	Errors        identity.FieldErrors
}

// fieldGroup is a fieldset of the profile.
type fieldGroup struct {
	Name   string // its legend is the text "account_profile.group.NAME"
	Fields []profileField
}

// profileField is one OpenID Connect claim on the form. Its label is the text "claim.NAME", its hint, if it has one,
// "claim.NAME.hint".
type profileField struct {
	Name         string
	Value        string
	Type         string // of the input, or "textarea" for several lines, or "zone" for a choice of time zones
	Autocomplete string // WCAG 1.3.5: browsers and helpers fill in what they know
	List         string // id of a datalist
	Hint         bool
	Phone        bool // the number's state is shown beside it
	Verified     bool
}

func (p *Pages) profilePage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.showProfile(w, r, u, u.Profile, nil)
}

func (p *Pages) showProfile(w http.ResponseWriter, r *http.Request, u identity.User, shown identity.Profile, problems identity.FieldErrors) error {
	v := view{Name: "account_profile", Wide: true, Nav: "profile", Content: profilePage{
		Done: done(r), Person: u.ID, Email: u.Email, EmailVerified: u.EmailVerified,
		Groups: profileGroups(shown, u.Profile), Zones: identity.Zones(), Errors: problems,
	}}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

func (p *Pages) saveProfile(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	next := readProfile(f, u.Profile)
	err = p.People.SetProfile(r.Context(), u.ID, next)
	var problems identity.FieldErrors
	switch {
	case errors.As(err, &problems):
		return p.showProfile(w, r, u, next, problems)
	case err != nil:
		return err
	}
	return p.redirect(w, r, "/account/profile?done=saved")
}

// readProfile puts the fields of the form into what is stored. Only what a person may say of themselves is read: whether
// an address or a number is confirmed is for us to say (a posted phone_number_verified changes nothing).
func readProfile(f form, p identity.Profile) identity.Profile {
	for field, to := range map[string]*string{
		"name": &p.Name, "given_name": &p.GivenName, "family_name": &p.FamilyName, "middle_name": &p.MiddleName,
		"nickname": &p.Nickname, "preferred_username": &p.PreferredUsername,
		"profile": &p.ProfileURL, "picture": &p.Picture, "website": &p.Website,
		"gender": &p.Gender, "birthdate": &p.Birthdate, "zoneinfo": &p.Zoneinfo, "locale": &p.Locale,
		"phone_number":      &p.PhoneNumber,
		"address.formatted": &p.Address.Formatted, "address.street_address": &p.Address.StreetAddress,
		"address.locality": &p.Address.Locality, "address.region": &p.Address.Region,
		"address.postal_code": &p.Address.PostalCode, "address.country": &p.Address.Country,
	} {
		// Browsers send CR LF for the line breaks of a textarea.
		*to = strings.ReplaceAll(f.trimmed(field), "\r\n", "\n")
	}
	return p
}

// profileGroups lays out the form. p is what the fields show, stored what is in force.
func profileGroups(p, stored identity.Profile) []fieldGroup {
	return []fieldGroup{
		{"names", []profileField{
			{Name: "name", Value: p.Name, Autocomplete: "name", Hint: true},
			{Name: "given_name", Value: p.GivenName, Autocomplete: "given-name"},
			{Name: "middle_name", Value: p.MiddleName, Autocomplete: "additional-name"},
			{Name: "family_name", Value: p.FamilyName, Autocomplete: "family-name"},
			{Name: "nickname", Value: p.Nickname, Autocomplete: "nickname", Hint: true},
			{Name: "preferred_username", Value: p.PreferredUsername, Autocomplete: "off", Hint: true},
		}},
		{"about", []profileField{
			{Name: "gender", Value: p.Gender, Autocomplete: "sex", List: "genders"},
			{Name: "birthdate", Value: p.Birthdate, Autocomplete: "bday", Type: birthdateInput(p.Birthdate)},
			{Name: "locale", Value: p.Locale, Autocomplete: "language", Hint: true},
			{Name: "zoneinfo", Value: p.Zoneinfo, Autocomplete: "off", Type: "zone", Hint: true},
		}},
		{"web", []profileField{
			{Name: "picture", Value: p.Picture, Autocomplete: "photo", Type: "url", Hint: true},
			{Name: "profile", Value: p.ProfileURL, Autocomplete: "off", Type: "url", Hint: true},
			{Name: "website", Value: p.Website, Autocomplete: "url", Type: "url"},
		}},
		{"phone", []profileField{
			{
				Name: "phone_number", Value: p.PhoneNumber, Autocomplete: "tel", Type: "tel", Hint: true,
				Phone: stored.PhoneNumber != "", Verified: stored.PhoneNumberVerified,
			},
		}},
		{"address", []profileField{
			{Name: "address.street_address", Value: p.Address.StreetAddress, Autocomplete: "street-address", Type: "textarea"},
			{Name: "address.postal_code", Value: p.Address.PostalCode, Autocomplete: "postal-code"},
			{Name: "address.locality", Value: p.Address.Locality, Autocomplete: "address-level2"},
			{Name: "address.region", Value: p.Address.Region, Autocomplete: "address-level1"},
			{Name: "address.country", Value: p.Address.Country, Autocomplete: "country-name"},
			{Name: "address.formatted", Value: p.Address.Formatted, Autocomplete: "off", Type: "textarea", Hint: true},
		}},
	}
}

// birthdateInput keeps a date that a calendar field cannot show, such as a year alone, in a field that can: the browser
// would send it back empty and so erase it.
func birthdateInput(value string) string {
	if value == "" {
		return "date"
	}
	if t, err := time.Parse(time.DateOnly, value); err == nil && t.Year() > 0 {
		return "date"
	}
	return "text"
}
