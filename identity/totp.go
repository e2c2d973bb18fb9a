package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// TOTP as every authenticator app knows it (RFC 6238): SHA-1, six digits, 30 seconds, one step of clock skew.
const (
	totpPeriod = 30
	totpSkew   = 1
	totpSecret = 20 // bytes, RFC 4226 §4 R6
	totpDigits = 6
	qrPixels   = 240
)

// enrolmentLife is how long an unconfirmed secret is shown again: long enough to reload the page, too short for one that
// somebody else has seen to be confirmed later (planted seed).
const enrolmentLife = 15 * time.Minute

// codesPerDay stops a patient guesser who has the password: at CodeTries per CodeWindow alone, a year of tries would
// probably hit. A right code clears the count.
const codesPerDay = 50

// Enrolment is what an authenticator app needs.
type Enrolment struct {
	Secret string // base32, to type
	URL    string // otpauth://
	QR     []byte // URL as a PNG
}

// BeginTOTP makes a secret for a person, not yet confirmed; called again before the confirmation it shows the same one for
// fifteen minutes. issuerName is what the app lists the account under. ErrEnrolled: two-step sign-in is on.
func (d *Directory) BeginTOTP(ctx context.Context, userID, issuerName string) (Enrolment, error) {
	u, err := d.User(ctx, userID)
	if err != nil {
		return Enrolment{}, err
	}
	if u.HasTOTP {
		return Enrolment{}, ErrEnrolled
	}
	secret := make([]byte, totpSecret)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		now := d.now()
		if _, err := d.db.Exec(ctx, `INSERT INTO totp (user_id, secret, last_step, created_at) VALUES ($1, $2, 0, $3)
			ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at
			WHERE totp.confirmed_at IS NULL AND totp.created_at <= $4`,
			userID, own.Seal(secret, totpPurpose(userID)), db.At(now), db.At(now.Add(-enrolmentLife))); err != nil {
			return err
		}
		var sealed []byte
		var confirmed bool
		if err := d.db.QueryRow(ctx, `SELECT secret, confirmed_at IS NOT NULL FROM totp WHERE user_id = $1`, userID).Scan(&sealed, &confirmed); err != nil {
			return err
		}
		if confirmed {
			return ErrEnrolled // its secret is shown to nobody again
		}
		secret, err = own.Open(sealed, totpPurpose(userID))
		return err
	})
	if err != nil {
		return Enrolment{}, fmt.Errorf("begin two-step enrolment: %w", err)
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: strings.ReplaceAll(issuerName, ":", " "), AccountName: u.Email, Secret: secret})
	if err != nil {
		return Enrolment{}, fmt.Errorf("begin two-step enrolment: %w", err)
	}
	var qr bytes.Buffer
	img, err := key.Image(qrPixels, qrPixels)
	if err == nil {
		err = png.Encode(&qr, img)
	}
	if err != nil {
		return Enrolment{}, fmt.Errorf("draw QR code: %w", err)
	}
	return Enrolment{Secret: key.Secret(), URL: key.URL(), QR: qr.Bytes()}, nil
}

// ConfirmTOTP turns two-step sign-in on when the code proves that the app has the secret, and returns ten recovery codes,
// which cannot be shown again. The code is used up by this. ErrCode, *LimitError, ErrEnrolled; ErrStale if s does not stand any more.
func (d *Directory) ConfirmTOTP(ctx context.Context, s Session, code string) (recovery []string, err error) {
	userID := s.UserID
	if err := d.spendCode(ctx, userID); err != nil {
		return nil, err
	}
	now := d.now()
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		if err := d.stands(ctx, s); err != nil {
			return err
		}
		secret, confirmed, err := d.totpSecret(ctx, userID)
		if err != nil {
			return err
		}
		if confirmed {
			return ErrEnrolled
		}
		step, ok := matchTOTP(secret, code, d.now())
		if !ok {
			return ErrCode
		}
		if _, err := d.db.Exec(ctx, `UPDATE totp SET confirmed_at = $2, last_step = $3 WHERE user_id = $1`, userID, db.At(now), step); err != nil {
			return err
		}
		if recovery, err = d.replaceRecoveryCodes(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "totp.enrol", Actor: userID, UserID: userID, Detail: map[string]string{"factor": string(totpAdded(now))}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("confirm two-step enrolment: %w", err)
	}
	d.forgiveCodes(ctx, userID)
	return recovery, nil
}

// CheckTOTP checks a code of the person's app and uses it up: no code works twice, in the skew window neither (RFC 6238
// §5.2). ErrCode or *LimitError; every try counts, right before it is looked at.
func (d *Directory) CheckTOTP(ctx context.Context, userID, code string) error {
	if err := d.spendCode(ctx, userID); err != nil {
		return err
	}
	secret, confirmed, err := d.totpSecret(ctx, userID)
	if err != nil && !errors.Is(err, ErrCode) {
		return fmt.Errorf("check code: %w", err)
	}
	used := int64(0)
	if step, ok := matchTOTP(secret, code, d.now()); ok && confirmed {
		if used, err = d.db.Exec(ctx, `UPDATE totp SET last_step = $1 WHERE user_id = $2 AND last_step < $1 AND confirmed_at IS NOT NULL`, step, userID); err != nil {
			return fmt.Errorf("check code: %w", err)
		}
	}
	return d.codeChecked(ctx, userID, "totp.check", used == 1)
}

// CheckRecoveryCode checks one of the person's recovery codes and uses it up. Tries count together with those of CheckTOTP.
// ErrCode or *LimitError.
func (d *Directory) CheckRecoveryCode(ctx context.Context, userID, code string) error {
	if err := d.spendCode(ctx, userID); err != nil {
		return err
	}
	used, err := d.db.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1 AND code_hash = $2
		AND (EXISTS (SELECT 1 FROM totp t WHERE t.user_id = $1 AND t.confirmed_at IS NOT NULL) OR EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = $1))`,
		userID, d.recoveryHash(userID, code))
	if err != nil {
		return fmt.Errorf("check recovery code: %w", err)
	}
	return d.codeChecked(ctx, userID, "recovery_code.check", used == 1)
}

// codeChecked records how a code fared; a right one clears the count of tries.
func (d *Directory) codeChecked(ctx context.Context, userID, action string, ok bool) error {
	if !ok {
		d.audit.Record(ctx, audit.Event{Action: action, Outcome: audit.Failure, UserID: userID})
		return ErrCode
	}
	d.audit.Record(ctx, audit.Event{Action: action, Actor: userID, UserID: userID})
	d.forgiveCodes(ctx, userID)
	return nil
}

// RecoveryCodesLeft counts the recovery codes that a person has not used.
func (d *Directory) RecoveryCodesLeft(ctx context.Context, userID string) (int, error) {
	var n int
	if err := d.db.QueryRow(ctx, `SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1`, userID).Scan(&n); err != nil {
		return 0, fmt.Errorf("count recovery codes: %w", err)
	}
	return n, nil
}

// NewRecoveryCodes replaces a person's recovery codes by ten fresh ones, which cannot be shown again. ErrNotFound:
// two-step sign-in is off.
func (d *Directory) NewRecoveryCodes(ctx context.Context, userID string) (codes []string, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		var one int
		if err := d.db.QueryRow(ctx, `SELECT 1 FROM users u WHERE u.id = $1
			AND (EXISTS (SELECT 1 FROM totp t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL) OR EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = u.id))`,
			userID).Scan(&one); err != nil {
			return err
		}
		if codes, err = d.replaceRecoveryCodes(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "recovery_code.renew", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("renew recovery codes: %w", err)
	}
	return codes, nil
}

// RemoveTOTP takes a person's authenticator app away, or drops an enrolment that was not confirmed. With the last second factor the
// recovery codes go. ErrNotFound: there is neither.
func (d *Directory) RemoveTOTP(ctx context.Context, userID string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `DELETE FROM totp WHERE user_id = $1`, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if err := d.dropUselessRecoveryCodes(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "totp.remove", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove two-step sign-in: %w", err)
	}
	return nil
}

// spendCode counts a try before the code is looked at, so that parallel guesses cannot slip through.
func (d *Directory) spendCode(ctx context.Context, userID string) error {
	if err := d.spend(ctx, codeKey(userID), d.limits.CodeTries, d.limits.CodeWindow); err != nil {
		return err
	}
	return d.spend(ctx, codeDayKey(userID), codesPerDay, 24*time.Hour)
}

func (d *Directory) forgiveCodes(ctx context.Context, userID string) {
	if err := errors.Join(d.cache.Delete(ctx, codeKey(userID)), d.cache.Delete(ctx, codeDayKey(userID))); err != nil {
		d.log.WarnContext(ctx, "count of codes not cleared", "user_id", userID, "err", err) // the code was right and is used up
	}
}

func codeKey(userID string) string    { return "code:" + userID }
func codeDayKey(userID string) string { return "code-day:" + userID }

func totpPurpose(userID string) string { return "totp:" + userID }

// totpSecret reads a person's secret, or reports ErrCode if there is none.
func (d *Directory) totpSecret(ctx context.Context, userID string) (secret []byte, confirmed bool, err error) {
	var dataKey, sealed []byte
	err = d.db.QueryRow(ctx, `SELECT k.wrapped, t.secret, t.confirmed_at IS NOT NULL FROM totp t JOIN data_keys k ON k.user_id = t.user_id WHERE t.user_id = $1`, userID).
		Scan(&dataKey, &sealed, &confirmed)
	if errors.Is(err, db.ErrNotFound) {
		return nil, false, ErrCode
	}
	if err != nil {
		return nil, false, err
	}
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return nil, false, err
	}
	secret, err = own.Open(sealed, totpPurpose(userID))
	return secret, confirmed, err
}

// matchTOTP finds the time step within the skew window whose code this is.
func matchTOTP(secret []byte, code string, now time.Time) (step int64, ok bool) {
	if len(code) > 4*totpDigits || len(secret) == 0 {
		return 0, false
	}
	code = strings.Join(strings.Fields(code), "") // apps show "123 456"
	text := base32.StdEncoding.EncodeToString(secret)
	current := now.Unix() / totpPeriod
	for s := current - totpSkew; s <= current+totpSkew; s++ {
		want, err := hotp.GenerateCode(text, uint64(s)) //nolint:gosec // after 1970
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			step, ok = s, true // the newest, if two steps happen to share a code
		}
	}
	return step, ok
}
