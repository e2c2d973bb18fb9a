package identity

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

var (
	// ErrNotFound says that there is no such person, session or login in progress.
	ErrNotFound = db.ErrNotFound
	// ErrEmailTaken says that another account has the address. Pages must not pass it on to strangers.
	ErrEmailTaken = errors.New("e-mail address taken")
	// ErrCredentials says that this address and password sign nobody in: unknown person, wrong password, too many tries and
	// disabled account all answer so, alike in text and time (account enumeration).
	ErrCredentials = errors.New("wrong e-mail address or password")
	// ErrBusy says that all password workers are taken and the queue is full; the caller may try again (503).
	ErrBusy = errors.New("too many passwords to check at once")
	// ErrCode says that a TOTP or recovery code is wrong or was used before.
	ErrCode = errors.New("wrong or used code")
	// ErrLink says that a link from a mail is unknown, used, replaced by a newer one or expired.
	ErrLink = errors.New("link is not valid")
	// ErrPasskey says that a passkey's answer is not accepted, for whatever reason: all look alike.
	ErrPasskey = errors.New("passkey not accepted")
	// ErrPasskeys says that a person has as many passkeys as anybody may.
	ErrPasskeys = errors.New("too many passkeys")
	// ErrEnrolled says that two-step sign-in is on already, so it can be neither begun nor confirmed again.
	ErrEnrolled = errors.New("two-step sign-in is on already")
	// ErrStale says that a session has ended, or that its proof is no longer fresh, so that nothing can be added in it.
	ErrStale = errors.New("session has ended or was proven too long ago")
	// ErrLastAdmin says that a person is the only active administrator, so that nobody could look after the others.
	ErrLastAdmin = errors.New("the only administrator")
)

// LimitError says that a limit on guessing is reached (429).
type LimitError struct{ RetryAfter time.Duration }

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("too many tries, next in %s", e.RetryAfter.Round(time.Second))
}

// FieldErrors names what is wrong with a form: field → locale key. The fields are "email", "password", "role", "status" and
// the OpenID Connect claim names of a profile ("given_name", "profile", "address.street_address"…).
type FieldErrors map[string]string

// Error implements error.
func (e FieldErrors) Error() string {
	var parts []string
	for _, field := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, field+": "+e[field])
	}
	return strings.Join(parts, ", ")
}

// err gives e as an error, or nil if nothing is wrong.
func (e FieldErrors) err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// The locale keys that FieldErrors may hold. Every locale file translates all of them (see Keys).
const (
	KeyRequired         = "error.required"
	KeyTooLong          = "error.too_long"
	KeyCharacters       = "error.characters" // malformed UTF-8 or control characters
	KeyEmailInvalid     = "error.email_invalid"
	KeyPasswordShort    = "error.password_short"    // fewer than MinPassword characters
	KeyPasswordLong     = "error.password_long"     // more than MaxPassword characters
	KeyPasswordCommon   = "error.password_common"   // on the list of breached passwords, plainly or decorated
	KeyPasswordPattern  = "error.password_pattern"  // repetition, sequence or keyboard walk
	KeyPasswordPersonal = "error.password_personal" // made of the person's own name or address
	KeyPasswordSame     = "error.password_same"     // the one-time password that had to be changed
	KeyURLInvalid       = "error.url_invalid"
	KeyBirthdateInvalid = "error.birthdate_invalid"
	KeyZoneinfoInvalid  = "error.zoneinfo_invalid"
	KeyLocaleInvalid    = "error.locale_invalid"
	KeyPhoneInvalid     = "error.phone_invalid"
	KeyUsernameInvalid  = "error.username_invalid" // preferred_username that looks like an e-mail address
	KeyRoleInvalid      = "error.role_invalid"
	KeyStatusInvalid    = "error.status_invalid"
	KeyMember           = "error.already_member" // invited to a group that they are in
	KeyNumber           = "error.number"
	KeyOption           = "error.option"   // not one of those that can be chosen
	KeyPattern          = "error.pattern"  // not of the form that is asked for
	KeyReserved         = "error.reserved" // a claim or scope that means something else
)

// Keys lists the locale keys of this package, for the test that no translation lacks one.
func Keys() []string {
	return []string{
		KeyRequired, KeyTooLong, KeyCharacters, KeyEmailInvalid, KeyPasswordShort, KeyPasswordLong, KeyPasswordCommon,
		KeyPasswordPattern, KeyPasswordPersonal, KeyPasswordSame, KeyURLInvalid, KeyBirthdateInvalid, KeyZoneinfoInvalid, KeyLocaleInvalid,
		KeyPhoneInvalid, KeyUsernameInvalid, KeyRoleInvalid, KeyStatusInvalid, KeyMember,
		KeyNumber, KeyOption, KeyPattern, KeyReserved,
	}
}
