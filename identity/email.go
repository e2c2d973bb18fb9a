package identity

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const (
	maxEmail = 254 // bytes, RFC 5321 §4.5.3.1.3 less the brackets
	maxLocal = 64  // bytes, RFC 5321 §4.5.3.1.1
)

var domainProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// NormalEmail gives the address as it is kept and written to: trimmed, NFC, the domain in lower-case ASCII (IDNA). Only a plain
// address passes: no display name, quoting, comment or invisible character. Pages write to a new address in this form only: of
// two spellings, one must not get the mail and the other be proven. ok = false: it is no address.
func NormalEmail(s string) (normal string, ok bool) {
	if len(s) > 4*maxEmail || !utf8.ValidString(s) {
		return "", false
	}
	s = norm.NFC.String(strings.TrimSpace(s))
	at := strings.LastIndexByte(s, '@')
	if at < 1 {
		return "", false
	}
	local := s[:at]
	domain, err := domainProfile.ToASCII(s[at+1:])
	if err != nil || len(local) > maxLocal {
		return "", false
	}
	s = local + "@" + domain
	if len(s) > maxEmail || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }) {
		return "", false
	}
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Address != s || parsed.Name != "" {
		return "", false
	}
	return s, true
}

// emailIndex is what an account is found by: a keyed hash of the address without regard to case. All spellings of one
// address share it, and with it one account and one counter of wrong passwords. Anything at all has an index, so that
// malformed addresses are counted like unknown ones.
func (d *Directory) emailIndex(email string) []byte {
	if normal, ok := NormalEmail(email); ok {
		email = normal
	} else if len(email) > 4*maxEmail {
		email = email[:4*maxEmail]
	}
	return seal.MAC(d.emailKey, strings.Map(foldRune, email))
}

// foldRune lowers a letter, but never turns another script's letter into an ASCII one ("İ" lowers to "i"): two mailboxes
// must not share an account.
func foldRune(r rune) rune {
	lower := unicode.ToLower(r)
	if r >= utf8.RuneSelf && lower < utf8.RuneSelf {
		return r
	}
	return lower
}
