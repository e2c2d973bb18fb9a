package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Purpose is what a link in a mail is for. A link serves no other.
type Purpose string

// The purposes, as kept in mail_links.
const (
	Verify      Purpose = "verify" // proves the person's address
	Reset       Purpose = "reset"  // allows a new password
	ChangeEmail Purpose = "change" // proves an address and makes it the person's
)

// LinkLife is how long a link can be followed; zero for what is no purpose.
func (d *Directory) LinkLife(p Purpose) time.Duration {
	switch p {
	case Verify:
		return d.linkLife.Verify
	case Reset:
		return d.linkLife.Reset
	case ChangeEmail:
		return d.linkLife.Change
	case NotMe:
		return notMeLife
	}
	return 0
}

// CodeLife is how long a code from a mail can be used.
func (d *Directory) CodeLife() time.Duration { return d.linkLife.Code }

func (p Purpose) sealedFor(userID string, hash []byte) string {
	return fmt.Sprintf("mail-link:%s:%s:%x", p, userID, hash)
}

// NewLink makes a link that proves an address ("": the person's own) and voids the older one of the same purpose. The mail
// must go to that address as User or this package's normal form has it. A malformed address gives FieldErrors; whether
// another account has it is not told before the link is followed (account enumeration). Disabled and absent people give
// ErrNotFound.
func (d *Directory) NewLink(ctx context.Context, userID string, purpose Purpose, email string) (token string, err error) {
	life := d.LinkLife(purpose)
	if life == 0 {
		return "", fmt.Errorf("mail link: no purpose %q", purpose)
	}
	u, err := d.User(ctx, userID)
	if err != nil {
		return "", err
	}
	// Whose account a thief has closed, with another password in place, gets it back by a new one.
	if u.Status != StatusActive && (u.Status != StatusClosing || purpose != Reset) {
		return "", fmt.Errorf("mail link: disabled: %w", ErrNotFound)
	}
	if email == "" {
		email = u.Email
	}
	normal, ok := NormalEmail(email)
	if !ok {
		return "", FieldErrors{"email": KeyEmailInvalid}
	}
	if purpose != ChangeEmail && !bytes.Equal(d.emailIndex(normal), d.emailIndex(u.Email)) {
		return "", fmt.Errorf("mail link: not the person's address: %w", ErrNotFound)
	}
	token, hash := newToken()
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID) // of two at once, the later voids the earlier
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1 AND purpose = $2`, userID, string(purpose)); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO mail_links (token_hash, user_id, purpose, email, expires_at) VALUES ($1, $2, $3, $4, $5)`,
			hash, userID, string(purpose), own.Seal([]byte(normal), purpose.sealedFor(userID, hash)), db.At(d.now().Add(life))); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "link.create", UserID: userID, Detail: map[string]string{"purpose": string(purpose)}})
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("create mail link: %w", err)
	}
	return token, nil
}

// CheckLink tells whose link it is without using it up, because mail scanners open links too; the page behind it asks for
// a click. It reports ErrLink.
func (d *Directory) CheckLink(ctx context.Context, token string, purpose Purpose) (User, error) {
	if !validToken(token) {
		return User{}, ErrLink
	}
	r, err := scanUser(d.db.QueryRow(ctx, userSelect+` JOIN mail_links l ON l.user_id = u.id
		WHERE l.token_hash = $1 AND l.purpose = $2 AND l.expires_at > $3 AND (u.status = 'active' OR u.status = 'closing' AND l.purpose = 'reset')`, hashToken(token), string(purpose), db.At(d.now())))
	if errors.Is(err, db.ErrNotFound) {
		return User{}, ErrLink
	}
	if err != nil {
		return User{}, fmt.Errorf("read mail link: %w", err)
	}
	return d.openUser(r)
}

// VerifyEmail uses up a Verify link: the address is proven, if it is still the person's. userID is who has proven to be in the account,
// by a session or by its password; another one's link is ErrLink, and stays alive. Whoever signs up with a stranger's
// address would otherwise have it proven by the stranger, who presses a button in a mail (account pre-hijacking).
func (d *Directory) VerifyEmail(ctx context.Context, token, userID string) (User, error) {
	var u User
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		owner, email, err := d.takeLink(ctx, token, Verify)
		if err == nil && owner != userID {
			err = ErrLink
		}
		if err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `UPDATE users SET email_verified = TRUE, updated_at = $3 WHERE id = $1 AND email_index = $2 AND status = 'active'`,
			userID, d.emailIndex(email), db.At(d.now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLink
		}
		d.audit.Record(ctx, audit.Event{Action: "email.verify", Actor: userID, UserID: userID})
		u, err = d.User(ctx, userID)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("verify e-mail address: %w", err)
	}
	return u, nil
}

// RefuseEmail uses up a Verify link for whoever holds the mailbox and has no account: the address is not proven. Nothing else is taken
// from the account, for its person may have mistyped their own address.
func (d *Directory) RefuseEmail(ctx context.Context, token string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		userID, _, err := d.takeLink(ctx, token, Verify)
		if err == nil {
			d.audit.Record(ctx, audit.Event{Action: "email.refuse", UserID: userID})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("refuse e-mail address: %w", err)
	}
	return nil
}

// ResetPassword uses up a Reset link and sets a password; a password that will not do (FieldErrors) leaves the link alive. Every
// session, token and other link of the person ends, the wrong tries are forgotten, and the address is proven. Two-step sign-in stays on.
func (d *Directory) ResetPassword(ctx context.Context, token, password string) (User, error) {
	u, err := d.CheckLink(ctx, token, Reset) // before the hash: strangers get no work out of us
	if err != nil {
		return User{}, err
	}
	if err := d.ValidatePassword(password, personalInputs(u.Email, u.Profile)...); err != nil {
		return User{}, err
	}
	hash, err := d.hasher.hash(ctx, password)
	if err != nil {
		return User{}, fmt.Errorf("hash password: %w", err)
	}
	var index []byte
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		userID, email, err := d.takeLink(ctx, token, Reset)
		if err != nil {
			return err
		}
		index = d.emailIndex(email)
		if !u.EmailVerified {
			if err := d.dropLinked(ctx, userID); err != nil {
				return err
			}
		}
		n, err := d.db.Exec(ctx, `UPDATE users SET password_hash = $3, password_changed_at = $4, must_change_password = FALSE, email_verified = TRUE,
			updated_at = $4 WHERE id = $1 AND email_index = $2 AND status IN ('active', 'closing')`, userID, index, hash, db.At(d.now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLink
		}
		// Notices that are not answered yet keep their links: a second factor that was not the person's may still stand in the way.
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1 AND purpose <> $2`, userID, string(NotMe)); err != nil {
			return err
		}
		if _, err := d.endAll(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "password.reset", Actor: userID, UserID: userID})
		u, err = d.User(ctx, userID)
		return err
	})
	if err != nil {
		return User{}, fmt.Errorf("reset password: %w", err)
	}
	d.forgivePasswords(ctx, u.ID, index)
	return u, nil
}

// ChangeEmail uses up a ChangeEmail link: its address becomes the person's, proven. It returns the old address, which
// deserves a notice, or ErrEmailTaken. Links sent to the old address die.
func (d *Directory) ChangeEmail(ctx context.Context, token string) (u User, old string, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		userID, email, err := d.takeLink(ctx, token, ChangeEmail)
		if err != nil {
			return err
		}
		before, err := d.User(ctx, userID)
		if err != nil {
			return err
		}
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `UPDATE users SET email_index = $2, email = $3, email_verified = TRUE, updated_at = $4 WHERE id = $1 AND status = 'active'`,
			userID, d.emailIndex(email), own.Seal([]byte(email), emailPurpose(userID)), db.At(d.now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLink
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1`, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "email.change", Actor: userID, UserID: userID})
		old = before.Email
		u, err = d.User(ctx, userID)
		return err
	})
	if errors.Is(err, db.ErrConflict) {
		return User{}, "", ErrEmailTaken
	}
	if err != nil {
		return User{}, "", fmt.Errorf("change e-mail address: %w", err)
	}
	return u, old, nil
}

// takeLink removes a link, for exactly one caller, in the transaction in ctx, and tells whose it was and which address
// it proves.
func (d *Directory) takeLink(ctx context.Context, token string, purpose Purpose) (userID, email string, err error) {
	if !validToken(token) {
		return "", "", ErrLink
	}
	hash := hashToken(token)
	var sealed, dataKey []byte
	err = d.db.QueryRow(ctx, `UPDATE users SET status = status WHERE id = (SELECT user_id FROM mail_links WHERE token_hash = $1) RETURNING id, `+wrappedKey,
		hash).Scan(&userID, &dataKey) // the person's row first, as in lock
	if err == nil {
		err = d.db.QueryRow(ctx, `DELETE FROM mail_links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3 RETURNING email`,
			hash, string(purpose), db.At(d.now())).Scan(&sealed)
	}
	if errors.Is(err, db.ErrNotFound) {
		return "", "", ErrLink
	}
	if err != nil {
		return "", "", err
	}
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return "", "", err
	}
	plain, err := own.Open(sealed, purpose.sealedFor(userID, hash))
	if err != nil {
		return "", "", fmt.Errorf("address of mail link: %w", err)
	}
	return userID, string(plain), nil
}
