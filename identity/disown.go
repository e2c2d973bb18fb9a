package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// NotMe is the purpose of a link by which the holder of an account says that something was not theirs.
const NotMe Purpose = "not-me"

// notMeLife is how long such a link can be used. It is short because it also removes a factor: whoever reads a person's mail must not
// be able to strip the account of one that has been in force for long.
const notMeLife = 3 * 24 * time.Hour

// Act is what "this wasn't me" is about, as kept in mail_links: a factor that was added, by its kind and id, or a word.
type Act string

// The acts that are no factors. Nothing of them is left when everybody is thrown out: links that change the address are void then,
// and no account elsewhere leads in.
const (
	ActAddress Act = "address" // another address was asked for
	ActLinked  Act = "linked"  // an account elsewhere was linked
)

const (
	passkeyAct = "passkey:"
	totpAct    = "totp:"
)

// PasskeyAct is that the passkey with id was added.
func PasskeyAct(id string) Act { return Act(passkeyAct + id) }

// totpAdded is that an authenticator app was confirmed at a time.
func totpAdded(at time.Time) Act { return Act(totpAct + at.UTC().Format(enrolledLayout)) }

// enrolledLayout has the precision of the database, so that a time read from it gives the same text.
const enrolledLayout = "2006-01-02T15:04:05.000000Z"

// Passkey tells whether a passkey was added.
func (a Act) Passkey() bool { return strings.HasPrefix(string(a), passkeyAct) }

// TOTP tells whether an authenticator app was added.
func (a Act) TOTP() bool { return strings.HasPrefix(string(a), totpAct) }

// Factors lists the acts that gave a person the second factors they have.
func (d *Directory) Factors(ctx context.Context, userID string) ([]Act, error) {
	var list []Act
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		list = append(list, PasskeyAct(id))
		return err
	}, `SELECT id FROM passkeys WHERE user_id = $1 ORDER BY id`, userID)
	if err != nil {
		return nil, fmt.Errorf("list factors: %w", err)
	}
	app, err := d.TOTPAct(ctx, userID)
	if err == nil && app != "" {
		list = append(list, app)
	}
	return list, err
}

// TOTPAct is the act that gave a person their authenticator app; empty if there is none.
func (d *Directory) TOTPAct(ctx context.Context, userID string) (Act, error) {
	var confirmed db.Time
	err := d.db.QueryRow(ctx, `SELECT confirmed_at FROM totp WHERE user_id = $1 AND confirmed_at IS NOT NULL`, userID).Scan(&confirmed)
	if errors.Is(err, db.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read authenticator app: %w", err)
	}
	return totpAdded(confirmed.Time), nil
}

// NewNotMeLink makes a link for a mail that tells a person of an act. Older ones stay: each undoes its own.
func (d *Directory) NewNotMeLink(ctx context.Context, userID string, about Act) (token string, err error) {
	u, err := d.User(ctx, userID)
	if err != nil {
		return "", err
	}
	token, hash := newToken()
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		_, err = d.db.Exec(ctx, `INSERT INTO mail_links (token_hash, user_id, purpose, email, about, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			hash, userID, string(NotMe), own.Seal([]byte(u.Email), NotMe.sealedFor(userID, hash)), string(about), db.At(d.now().Add(notMeLife)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("create link of a notice: %w", err)
	}
	return token, nil
}

// CheckNotMeLink tells what a link is about without using it up. It reports ErrLink.
func (d *Directory) CheckNotMeLink(ctx context.Context, token string) (about Act, err error) {
	if _, err := d.CheckLink(ctx, token, NotMe); err != nil {
		return "", err
	}
	if err := d.db.QueryRow(ctx, `SELECT about FROM mail_links WHERE token_hash = $1`, hashToken(token)).Scan((*string)(&about)); err != nil {
		if errors.Is(err, db.ErrNotFound) {
			err = ErrLink
		}
		return "", fmt.Errorf("read link of a notice: %w", err)
	}
	return about, nil
}

// DisownByLink uses up a link of a notice: it is Disown with the act that the link is about. ErrLink.
func (d *Directory) DisownByLink(ctx context.Context, token string) (u User, removed bool, err error) {
	about, err := d.CheckNotMeLink(ctx, token)
	if err != nil {
		return User{}, false, err
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		userID, _, err := d.takeLink(ctx, token, NotMe)
		if err != nil {
			return err
		}
		if removed, err = d.disown(ctx, userID, about); err != nil {
			return err
		}
		u, err = d.User(ctx, userID)
		return err
	})
	if err != nil {
		return User{}, false, fmt.Errorf("disown account by link: %w", err)
	}
	return u, removed, nil
}

// Disown throws whoever else is in a person's account out: every session and token ends, no account elsewhere leads into it any more,
// and links in mails are void, for one may be about to move the account to another address; those of other notices stay. If about names
// a factor, exactly that one goes, with the recovery codes, which whoever added it may have seen. Password and the other factors
// stay, so that a mailbox, to which the way back leads, is not enough to be rid of them.
//
// The caller has a fresh proof if about names a factor.
func (d *Directory) Disown(ctx context.Context, userID string, about Act) (removed bool, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		removed, err = d.disown(ctx, userID, about)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("disown account: %w", err)
	}
	return removed, nil
}

// disown is Disown in the transaction in ctx, which holds the person's row.
func (d *Directory) disown(ctx context.Context, userID string, about Act) (removed bool, err error) {
	d.audit.Record(ctx, audit.Event{Action: "account.disown", Actor: userID, UserID: userID, Detail: map[string]string{"about": string(about)}})
	if removed, err = d.removeFactor(ctx, userID, about); err != nil {
		return false, err
	}
	if _, err := d.db.Exec(ctx, `DELETE FROM linked_accounts WHERE user_id = $1`, userID); err != nil {
		return false, err
	}
	if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1 AND purpose <> $2`, userID, string(NotMe)); err != nil {
		return false, err
	}
	if _, err := d.endAll(ctx, userID); err != nil {
		return false, err
	}
	d.audit.Record(ctx, audit.Event{Action: "session.end_all", Actor: userID, UserID: userID})
	return removed, nil
}

// removeFactor takes away the factor that an act added, if the person still has it.
func (d *Directory) removeFactor(ctx context.Context, userID string, about Act) (bool, error) {
	var n int64
	var err error
	switch {
	case about.Passkey():
		id := strings.TrimPrefix(string(about), passkeyAct)
		if n, err = d.db.Exec(ctx, `DELETE FROM passkeys WHERE id = $1 AND user_id = $2`, id, userID); n > 0 {
			d.audit.Record(ctx, audit.Event{Action: "passkey.remove", Actor: userID, UserID: userID, Detail: map[string]string{"passkey": id}})
		}
	case about.TOTP():
		at, malformed := time.Parse(enrolledLayout, strings.TrimPrefix(string(about), totpAct))
		if malformed != nil {
			return false, nil
		}
		if n, err = d.db.Exec(ctx, `DELETE FROM totp WHERE user_id = $1 AND confirmed_at = $2`, userID, db.At(at)); n > 0 {
			d.audit.Record(ctx, audit.Event{Action: "totp.remove", Actor: userID, UserID: userID})
		}
	}
	if err == nil && n > 0 {
		_, err = d.db.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, userID)
	}
	return n > 0, err
}
