package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// erasuresAtOnce bounds one round of EraseDue and UntoldErasures.
const erasuresAtOnce = 200

// AskErasure closes a person's account at once and has it erased when the grace period is over; it returns that moment.
// Every session, token and mail link ends. sessionID is the session in which the person asks, which must be alive: a thief
// who is being thrown out must not have the last word. It is empty for an administrator, and then UntoldErasures has a
// mail sent. An account that is closing already keeps its date, and a disabled one stays disabled, so that its holder cannot
// open it by cancelling. ErrLastAdmin unless force.
func (d *Directory) AskErasure(ctx context.Context, userID, sessionID string, force bool) (due time.Time, err error) {
	now := d.now()
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if err := d.lockForErasure(ctx, userID, force); err != nil {
			return err
		}
		actor := "cli"
		if sessionID != "" {
			actor = userID
			var one int
			if err := d.db.QueryRow(ctx, `SELECT 1 FROM sessions WHERE id = $1 AND user_id = $2`, sessionID, userID).Scan(&one); err != nil {
				return err
			}
		}
		var at db.Time
		if err := d.db.QueryRow(ctx, `INSERT INTO erasures (user_id, asked_at, due_at, told) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id) DO UPDATE SET told = erasures.told RETURNING due_at`,
			userID, db.At(now), db.At(now.Add(d.erasureGrace)), sessionID != "").Scan(&at); err != nil {
			return err
		}
		due = at.Time
		if _, err := d.db.Exec(ctx, `UPDATE users SET status = 'closing', updated_at = $2 WHERE id = $1 AND status = 'active'`, userID, db.At(now)); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1`, userID); err != nil {
			return err
		}
		if _, err := d.endAll(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "user.erasure_ask", Actor: actor, UserID: userID, Detail: map[string]string{"due": due.UTC().Format(time.RFC3339)}})
		return nil
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for erasure: %w", err)
	}
	return due, nil
}

// ErasureDue tells when a person is to be erased, or ErrNotFound if that is not asked for.
func (d *Directory) ErasureDue(ctx context.Context, userID string) (time.Time, error) {
	var due db.Time
	if err := d.db.QueryRow(ctx, `SELECT due_at FROM erasures WHERE user_id = $1`, userID).Scan(&due); err != nil {
		return time.Time{}, fmt.Errorf("read erasure: %w", err)
	}
	return due.Time, nil
}

// ErasureGrace is how long after AskErasure a person is erased.
func (d *Directory) ErasureGrace() time.Duration { return d.erasureGrace }

// CancelErasure opens a closing account again for the person, who has signed in. What ended when it was closed stays ended.
// ErrNotFound once the grace period is over, and for an account that an administrator has disabled meanwhile.
func (d *Directory) CancelErasure(ctx context.Context, userID string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		now := db.At(d.now())
		n, err := d.db.Exec(ctx, `UPDATE users SET status = 'active', updated_at = $2 WHERE id = $1 AND status = 'closing'`, userID, now)
		if err != nil {
			return err
		}
		m, err := d.db.Exec(ctx, `DELETE FROM erasures WHERE user_id = $1 AND due_at > $2`, userID, now)
		if err != nil {
			return err
		}
		if n == 0 || m == 0 {
			return ErrNotFound // and nothing of this happens
		}
		d.audit.Record(ctx, audit.Event{Action: "user.erasure_cancel", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("cancel erasure: %w", err)
	}
	return nil
}

// UntoldErasures hands over, once each, the people whose erasure an administrator asked for, to be told.
func (d *Directory) UntoldErasures(ctx context.Context) ([]User, error) {
	var ids []string
	err := d.db.Query(ctx, scanID(&ids), `UPDATE erasures SET told = TRUE WHERE NOT told AND user_id IN
		(SELECT user_id FROM erasures WHERE NOT told ORDER BY asked_at LIMIT $1) RETURNING user_id`, erasuresAtOnce)
	if err != nil {
		return nil, fmt.Errorf("untold erasures: %w", err)
	}
	var people []User
	for _, id := range ids {
		u, failed := d.User(ctx, id)
		if failed == nil {
			people = append(people, u)
		} else if !errors.Is(failed, ErrNotFound) {
			err = errors.Join(err, failed)
		}
	}
	return people, err
}

// EraseDue erases those whose grace period is over and returns them as they were, for a last mail. Of several replicas one
// erases each. Whom it cannot erase now is tried again at the next call.
func (d *Directory) EraseDue(ctx context.Context) (erased []User, err error) {
	var ids []string
	if err := d.db.Query(ctx, scanID(&ids), `SELECT user_id FROM erasures WHERE due_at <= $1 ORDER BY due_at LIMIT $2`, db.At(d.now()), erasuresAtOnce); err != nil {
		return nil, fmt.Errorf("erasures due: %w", err)
	}
	for _, id := range ids {
		u, failed := d.erase(ctx, id, "", func(ctx context.Context) error {
			if _, err := d.lock(ctx, id); err != nil {
				return err
			}
			var one int // behind the lock: a cancellation may have been quicker
			return d.db.QueryRow(ctx, `SELECT 1 FROM erasures WHERE user_id = $1 AND due_at <= $2`, id, db.At(d.now())).Scan(&one)
		})
		if failed == nil {
			erased = append(erased, u)
		} else if !errors.Is(failed, ErrNotFound) {
			err = errors.Join(err, failed)
		}
	}
	return erased, err
}

// Erase erases a person now, at an administrator's word, and returns the person as they were. ErrLastAdmin unless force.
func (d *Directory) Erase(ctx context.Context, id string, force bool) (User, error) {
	return d.erase(ctx, id, "cli", func(ctx context.Context) error { return d.lockForErasure(ctx, id, force) })
}

// Delete is Erase whoever it is.
func (d *Directory) Delete(ctx context.Context, id string) error {
	_, err := d.Erase(ctx, id, true)
	return err
}

// erase removes a person and everything kept about them. The data key is overwritten first, since a deleted row may lie in
// the file for long: without the key, what else is left of the person anywhere is noise. The audit rows stay; they hold the
// id alone, which says nothing about anybody and is never given again.
func (d *Directory) erase(ctx context.Context, id, actor string, allowed func(ctx context.Context) error) (u User, err error) {
	noise := make([]byte, 2*seal.KeySize)
	_, _ = rand.Read(noise) // never fails (crypto/rand)
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if err := allowed(ctx); err != nil {
			return err
		}
		dataKey, err := d.lock(ctx, id)
		if err != nil {
			return err
		}
		r, err := scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.id = $1`, id))
		if err == nil {
			u, err = d.openUser(r)
		} else if !errors.Is(err, db.ErrNotFound) {
			return err
		}
		if err != nil { // a damaged row, or a lost key, must not keep a person from being erased
			d.log.WarnContext(ctx, "person erased unread", "user_id", id, "err", err)
			u = User{ID: id, Role: r.user.Role, Status: r.user.Status}
		}
		if _, err := d.endAll(ctx, id); err != nil { // first, while the rows that name the tokens are there
			return err
		}
		if err := d.forgetInvitations(ctx, id); err != nil { // while the address can be found
			return err
		}
		if _, err := d.db.Exec(ctx, `UPDATE data_keys SET wrapped = $2 WHERE user_id = $1`, id, make([]byte, len(dataKey))); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `UPDATE users SET email_index = $2, email = $3, password_hash = '' WHERE id = $1`, id, noise, make([]byte, len(r.email))); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM users WHERE id = $1`, id); err != nil { // and all that refers to it
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "user.delete", Actor: actor, UserID: id})
		return nil
	})
	if err != nil {
		return User{}, fmt.Errorf("erase user: %w", err)
	}
	// The log outlives a database that is restored from a backup: it tells who must be erased again.
	d.log.InfoContext(ctx, "person erased", "user_id", id)
	return u, nil
}

// lockForErasure is lock for whoever asks that a person goes. Unless force, the last administrator stays: nobody could
// look after the others. Two administrators who go at once wait for each other here.
func (d *Directory) lockForErasure(ctx context.Context, id string, force bool) error {
	if !force {
		var role string
		if err := d.db.QueryRow(ctx, `SELECT role FROM users WHERE id = $1`, id).Scan(&role); err != nil {
			return err
		}
		if role == RoleAdmin {
			var admins []string
			if err := d.db.Query(ctx, scanID(&admins), `UPDATE users SET status = status WHERE role = 'admin' AND (status = 'active' OR id = $1) RETURNING id`, id); err != nil {
				return err
			}
			if len(admins) < 2 {
				return ErrLastAdmin
			}
		}
	}
	_, err := d.lock(ctx, id)
	return err
}

// scanID collects a column of ids.
func scanID(ids *[]string) func(row db.Scanner) error {
	return func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		*ids = append(*ids, id)
		return err
	}
}
