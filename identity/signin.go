package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// CheckPassword signs a person in by address and password. It reports ErrCredentials, *LimitError when the client
// address or the whole server has had its share, or ErrBusy. Every try is counted before the hash is computed, so that
// parallel guesses cannot slip through; a right password clears the account's count. An account with too many wrong tries
// answers ErrCredentials even to the right password, and takes as long: neither its existence nor its lock shows. Somebody whose
// account is closing gets it back as such: no session can be started, but CancelErasure may follow.
func (d *Directory) CheckPassword(ctx context.Context, email, password string, addr netip.Addr) (User, error) {
	index := d.emailIndex(email)
	return d.checkPassword(ctx, "password.check", accountKey(index), password, addr, func(ctx context.Context) (r userRow, err error) {
		if r, err = scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.email_index = $1`, index)); err != nil && !errors.Is(err, db.ErrNotFound) {
			return userRow{}, err
		}
		neighbour, failed := d.neighbourHash(ctx, index)
		if failed != nil {
			return userRow{}, failed
		}
		if err != nil {
			r = userRow{decoy: neighbour}
		}
		return r, err
	})
}

// CheckUserPassword asks a person who is known already for the password again, under the same limits.
func (d *Directory) CheckUserPassword(ctx context.Context, userID, password string, addr netip.Addr) error {
	var index []byte
	err := d.db.QueryRow(ctx, `SELECT email_index FROM users WHERE id = $1`, userID).Scan(&index)
	if errors.Is(err, db.ErrNotFound) {
		index = seal.MAC(d.emailKey, "no such id", userID)
	} else if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	_, err = d.checkPassword(ctx, "password.confirm", accountKey(index), password, addr, func(ctx context.Context) (userRow, error) {
		return scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.id = $1`, userID))
	})
	return err
}

func (d *Directory) checkPassword(ctx context.Context, action, account, password string, addr netip.Addr,
	find func(ctx context.Context) (userRow, error),
) (User, error) {
	if err := d.spend(ctx, "password-address:"+addressKey(addr), d.limits.AddressTries, d.limits.AddressWindow); err != nil {
		return User{}, err
	}
	if err := d.spend(ctx, "password-network:"+networkKey(addr), d.limits.NetworkTries, d.limits.AddressWindow); err != nil {
		return User{}, err
	}
	if err := d.spend(ctx, "password-overall", d.limits.OverallPerSecond, time.Second); err != nil {
		return User{}, err
	}
	// A place in the queue comes before the account's count: a busy server must not use up a person's tries.
	if err := d.hasher.enter(); err != nil {
		return User{}, err
	}
	defer d.hasher.leave()
	var limited *LimitError
	err := d.spend(ctx, account, d.limits.AccountTries, d.limits.AccountWindow)
	if err != nil && !errors.As(err, &limited) {
		return User{}, err
	}
	r, err := find(ctx)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return User{}, fmt.Errorf("read user: %w", err)
	}
	reason := r.refusal(limited != nil, password)
	hash := r.passwordHash
	if hash == "" {
		hash = r.decoy
	}
	if reason != "" {
		hash = d.hasher.decoy(hash)
	}
	if len(password) > maxPasswordBytes {
		password = ""
	}
	ok, outdated, err := d.hasher.verify(ctx, hash, password)
	if err != nil {
		return User{}, fmt.Errorf("check password: %w", err)
	}
	switch {
	case reason == "" && !ok:
		reason = "password"
	case reason == "" && r.user.Status == StatusClosing:
		if reason, err = d.closed(ctx, r.user.ID); err != nil {
			return User{}, err
		}
	}
	if reason != "" {
		d.audit.Record(ctx, audit.Event{Action: action, Outcome: audit.Failure, UserID: r.user.ID, Detail: map[string]string{"reason": reason}})
		return User{}, ErrCredentials
	}
	if err := d.cache.Delete(ctx, account); err != nil {
		return User{}, fmt.Errorf("clear count of tries: %w", err)
	}
	if outdated {
		if err := d.upgradeHash(ctx, r, password); err != nil {
			d.log.WarnContext(ctx, "password hash not upgraded", "user_id", r.user.ID, "err", err) // the next login tries again
		}
	}
	d.audit.Record(ctx, audit.Event{Action: action, Actor: r.user.ID, UserID: r.user.ID})
	return d.openUser(r)
}

// neighbourHash gives the password hash of a person chosen by the index of an address, always the same for one address: the
// first one behind it. Imported hashes take another time to check than our own. So that time does not tell an unknown address
// from a known one, it takes the time of that person's. Every sign-in asks for it, used or not.
func (d *Directory) neighbourHash(ctx context.Context, index []byte) (hash string, err error) {
	err = d.db.QueryRow(ctx, `SELECT password_hash FROM users WHERE email_index > $1 ORDER BY email_index LIMIT 1`, index).Scan(&hash)
	if errors.Is(err, db.ErrNotFound) {
		return "", nil
	}
	return hash, err
}

// refusal tells why nobody signs in as r whatever the hash says, for the audit log alone; "" if the hash decides.
func (r userRow) refusal(locked bool, password string) string {
	switch {
	case r.user.ID == "":
		return "unknown"
	case locked:
		return "locked"
	case r.user.Status != StatusActive && r.user.Status != StatusClosing:
		return "disabled"
	case r.passwordHash == "" || len(password) > maxPasswordBytes:
		return "password"
	}
	return ""
}

// closed tells why a person whose account is closing signs in no more; "" while the erasure can be called off.
func (d *Directory) closed(ctx context.Context, userID string) (reason string, err error) {
	due, err := d.ErasureDue(ctx, userID)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && !due.After(d.now()):
		return "erased", nil
	}
	return "", err
}

// upgradeHash hashes a proven password anew at today's cost, unless it was changed meanwhile.
func (d *Directory) upgradeHash(ctx context.Context, r userRow, password string) error {
	hash, err := d.hasher.hashEntered(ctx, password)
	if err != nil {
		return err
	}
	_, err = d.db.Exec(ctx, `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, r.user.ID, r.passwordHash, hash)
	return err
}

// SetPassword gives the person behind s a new password, or reports FieldErrors. A one-time password that must be changed cannot be
// kept. Reset links that are under way die with the old password. Ending the other sessions is the caller's choice
// (EndSessions). If s has ended by now the answer is ErrNotFound: a thief who is thrown out by a reset while he changes the
// password must not have the last word.
func (d *Directory) SetPassword(ctx context.Context, s Session, password string) error {
	userID := s.UserID
	r, err := scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.id = $1`, userID))
	if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	u, err := d.openUser(r)
	if err != nil {
		return err
	}
	if err := d.ValidatePassword(password, personalInputs(u.Email, u.Profile)...); err != nil {
		return err
	}
	if u.MustChangePassword && u.HasPassword {
		same, err := d.hasher.matches(ctx, r.passwordHash, password)
		if err != nil {
			return fmt.Errorf("compare with old password: %w", err)
		}
		if same {
			return FieldErrors{"password": KeyPasswordSame}
		}
	}
	hash, err := d.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `UPDATE users SET password_hash = $2, password_changed_at = $3, must_change_password = FALSE, updated_at = $3
			WHERE id = $1 AND EXISTS (SELECT 1 FROM sessions WHERE id = $4 AND user_id = $1)`, userID, hash, db.At(d.now()), s.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1 AND purpose = $2`, userID, string(Reset)); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "password.set", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	return nil
}

// SetOneTimePassword gives a person a password that an administrator made up and that the person must change at the next
// sign-in. Every session, token and mail link ends and the wrong tries are forgotten: whoever asked for it may have lost the
// account to somebody. The password is the caller's to make strong; it is not held against the list.
func (d *Directory) SetOneTimePassword(ctx context.Context, userID, password string) error {
	hash, err := d.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	var index []byte
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if err := d.db.QueryRow(ctx, `UPDATE users SET password_hash = $2, password_changed_at = $3, must_change_password = TRUE, updated_at = $3
			WHERE id = $1 RETURNING email_index`, userID, hash, db.At(d.now())).Scan(&index); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1`, userID); err != nil {
			return err
		}
		if _, err := d.endAll(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "password.one_time", Actor: "cli", UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("set one-time password: %w", err)
	}
	d.forgivePasswords(ctx, userID, index)
	return nil
}

// forgivePasswords forgets the wrong passwords that were tried for an account.
func (d *Directory) forgivePasswords(ctx context.Context, userID string, index []byte) {
	if err := d.cache.Delete(ctx, accountKey(index)); err != nil {
		d.log.WarnContext(ctx, "count of wrong passwords not cleared", "user_id", userID, "err", err) // it fades by itself
	}
}

// spend takes one try of limit per window, or reports *LimitError.
func (d *Directory) spend(ctx context.Context, key string, limit int, window time.Duration) error {
	wait, err := d.cache.Allow(ctx, key, limit, window)
	if err != nil {
		return fmt.Errorf("count tries: %w", err)
	}
	if wait > 0 {
		return &LimitError{RetryAfter: wait}
	}
	return nil
}

func accountKey(index []byte) string { return "password-account:" + hex.EncodeToString(index) }

// networkKey counts what one provider or company commands as one client, at a higher limit than addressKey: whoever rents
// addresses by the hundred gets them side by side.
func networkKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() { // no address: nobody but ourselves
		return ""
	}
	return p.String()
}

// addressKey counts an IPv6 /64 as one client: that is the least a single customer gets, and it can send from each of
// its 2^64 addresses. An IPv4 address counts the same in its IPv6-mapped form.
func addressKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().String()
	}
	return a.String()
}
