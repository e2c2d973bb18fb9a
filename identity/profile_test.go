package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var profileNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestProfileFields(t *testing.T) {
	t.Parallel()
	type field func(p *Profile) *string
	name := func(p *Profile) *string { return &p.Name }
	site := func(p *Profile) *string { return &p.Website }
	birth := func(p *Profile) *string { return &p.Birthdate }
	zone := func(p *Profile) *string { return &p.Zoneinfo }
	locale := func(p *Profile) *string { return &p.Locale }
	phone := func(p *Profile) *string { return &p.PhoneNumber }
	user := func(p *Profile) *string { return &p.PreferredUsername }
	street := func(p *Profile) *string { return &p.Address.StreetAddress }
	city := func(p *Profile) *string { return &p.Address.Locality }
	for _, c := range []struct {
		claim    string
		field    field
		in, want string
		wrong    string
	}{
		{"name", name, "  Ada  ", "Ada", ""},
		{"name", name, "A\u0308da", "Äda", ""},
		{"name", name, "علی\u200cرضا", "علی\u200cرضا", ""},
		{"name", name, "Ada\nLovelace", "", KeyCharacters},
		{"name", name, "Ada\x00", "", KeyCharacters},
		{"name", name, "Ada\u202egnp.exe", "", KeyCharacters},
		{"name", name, "Ada\u2066x", "", KeyCharacters},
		{"name", name, "\xff\xfe", "", KeyCharacters},
		{"name", name, strings.Repeat("é", 200), strings.Repeat("é", 200), ""},
		{"name", name, strings.Repeat("é", 201), "", KeyTooLong},
		{"name", name, strings.Repeat("x", 1<<20), "", KeyTooLong},
		{"website", site, "https://example.com/a?b=c#d", "https://example.com/a?b=c#d", ""},
		{"website", site, "http://bücher.example", "http://b%C3%BCcher.example", ""},
		{"website", site, "HTTPS://example.com", "https://example.com", ""},
		{"website", site, "javascript:alert(1)", "", KeyURLInvalid},
		{"website", site, "JaVaScRiPt:alert(1)", "", KeyURLInvalid},
		{"website", site, "javascript://example.com/%0Aalert(1)", "", KeyURLInvalid},
		{"website", site, "data:text/html,x", "", KeyURLInvalid},
		{"website", site, "java\tscript:alert(1)", "", KeyCharacters},
		{"website", site, "//example.com", "", KeyURLInvalid},
		{"website", site, "example.com", "", KeyURLInvalid},
		{"website", site, "https://", "", KeyURLInvalid},
		{"website", site, "https:example.com", "", KeyURLInvalid},
		{"website", site, "https://good@evil.example", "", KeyURLInvalid},
		{"website", site, `https://example.com\@evil`, "", KeyURLInvalid},
		{"website", site, `https://example.com/"><script>`, "", KeyURLInvalid},
		{"website", site, "https://example.com/" + strings.Repeat("x", 1000), "", KeyTooLong},
		{"birthdate", birth, "1815-12-10", "1815-12-10", ""},
		{"birthdate", birth, "0000-02-29", "0000-02-29", ""},
		{"birthdate", birth, "1985", "1985", ""},
		{"birthdate", birth, "2026-03-01", "2026-03-01", ""},
		{"birthdate", birth, "2026-03-04", "", KeyBirthdateInvalid},
		{"birthdate", birth, "2027", "", KeyBirthdateInvalid},
		{"birthdate", birth, "2025-02-29", "", KeyBirthdateInvalid},
		{"birthdate", birth, "0000", "", KeyBirthdateInvalid},
		{"birthdate", birth, "1066-10-14", "", KeyBirthdateInvalid},
		{"birthdate", birth, "10.12.1815", "", KeyBirthdateInvalid},
		{"birthdate", birth, "1815-12-10T00:00", "", KeyBirthdateInvalid},
		{"zoneinfo", zone, "Europe/Berlin", "Europe/Berlin", ""},
		{"zoneinfo", zone, "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires", ""},
		{"zoneinfo", zone, "UTC", "UTC", ""},
		{"zoneinfo", zone, "Europe", "", KeyZoneinfoInvalid},
		{"zoneinfo", zone, "Berlin", "", KeyZoneinfoInvalid},
		{"zoneinfo", zone, "Europe/Bielefeld", "", KeyZoneinfoInvalid},
		{"zoneinfo", zone, "../etc/passwd", "", KeyZoneinfoInvalid},
		{"locale", locale, "de-CH", "de-CH", ""},
		{"locale", locale, "en_us", "en-US", ""},
		{"locale", locale, "zh-hant-tw", "zh-Hant-TW", ""},
		{"locale", locale, "nonsense-and-more", "", KeyLocaleInvalid},
		{"locale", locale, "und", "", KeyLocaleInvalid},
		{"locale", locale, strings.Repeat("a-", 100), "", KeyTooLong},
		{"phone_number", phone, "+49 (30) 901820", "+4930901820", ""},
		{"phone_number", phone, "030 901820", "", KeyPhoneInvalid},
		{"phone_number", phone, "+0301234567", "", KeyPhoneInvalid},
		{"phone_number", phone, "+1234567890123456", "", KeyPhoneInvalid},
		{"phone_number", phone, "+49abc", "", KeyPhoneInvalid},
		{"phone_number", phone, "+٤٩٣٠٩٠١٨٢٠", "", KeyPhoneInvalid},
		{"preferred_username", user, "ada.lovelace", "ada.lovelace", ""},
		{"preferred_username", user, "bob@example.com", "", KeyUsernameInvalid},
		{"preferred_username", user, "bob\uff20example.com", "", KeyUsernameInvalid},
		{"preferred_username", user, "ada lovelace", "", KeyUsernameInvalid},
		{"address.street_address", street, "1 Square\r\nBack door", "1 Square\nBack door", ""},
		{"address.street_address", street, "1 Square\rBack door", "", KeyCharacters},
		{"address.locality", city, "Lon\ndon", "", KeyCharacters},
	} {
		var p Profile
		*c.field(&p) = c.in
		wrong := FieldErrors{}
		p = p.normal(profileNow, wrong)
		want := FieldErrors{}
		if c.wrong != "" {
			want[c.claim] = c.wrong
		}
		if diff := cmp.Diff(want, wrong); diff != "" || c.wrong == "" && *c.field(&p) != c.want {
			t.Errorf("%s %.60q: got %q with errors %v, want %q with %v", c.claim, c.in, *c.field(&p), wrong, c.want, want)
		}
	}
}

func TestZonesAreKnownToGo(t *testing.T) {
	t.Parallel()
	zones := Zones()
	if len(zones) < 400 {
		t.Fatalf("%d zones, want the whole list", len(zones))
	}
	for _, z := range zones {
		if _, key := checkZone(z); key != "" {
			t.Errorf("checkZone(%q) = %q", z, key)
		}
	}
}

func FuzzProfile(f *testing.F) {
	for _, s := range []string{"https://example.com/", "javascript:x", "1985-02-29", "0000-12-10", "Europe/Berlin", "de-CH-1901", "+4930901820", "a\u0308\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wrong := FieldErrors{}
		p := Profile{Name: s, PreferredUsername: s, Website: s, Birthdate: s, Zoneinfo: s, Locale: s, PhoneNumber: s, Address: Address{Formatted: s}}
		p = p.normal(profileNow, wrong)
		if p.Website != "" && wrong["website"] == "" && !strings.HasPrefix(p.Website, "http://") && !strings.HasPrefix(p.Website, "https://") {
			t.Errorf("website %q passed as %q", s, p.Website)
		}
		if wrong["name"] == "" && strings.ContainsAny(p.Name, "\x00\n\r\x1b") {
			t.Errorf("name %q passed as %q", s, p.Name)
		}
		again := FieldErrors{}
		if twice := p.normal(profileNow, again); len(wrong) == 0 && (twice != p || len(again) != 0) {
			t.Errorf("%q is not stable: %+v, then %+v, %v", s, p, twice, again)
		}
	})
}
