package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// seenEvery bounds how often a session's last use is written.
const seenEvery = 5 * time.Minute

// maxUserAgent is how many bytes of a browser's name are kept.
const maxUserAgent = 300

// Freshness is how recent a proof must be before something can change that keeps strangers out.
const Freshness = 10 * time.Minute

// Device is where a session lives.
type Device struct {
	UserAgent string     `json:"user_agent,omitempty"`
	Address   netip.Addr `json:"address,omitzero"`
}

// Session is a browser in which a person has signed in.
type Session struct {
	ID         string // the sid claim
	UserID     string
	AuthTime   time.Time // when AMR was proven
	Undated    bool      // AuthTime is when the person came back from a provider that did not say when it had asked them
	Provider   string    // by which the person came, "" for none; filled by Session only
	AMR        []string
	CreatedAt  time.Time
	LastSeenAt time.Time // to within five minutes
	ExpiresAt  time.Time // absolute

	EmailVerified      bool
	MustChangePassword bool
	HasTOTP            bool
	HasPasskey         bool
	Role               string

	Preferences Preferences // in force; filled by Session only

	Device Device // filled by Sessions only

	tokenHash []byte // of the cookie it was found by
}

// ACR is the authentication context class that the session's methods amount to.
func (s Session) ACR() string { return acrOf(s.AMR) }

// TwoStep tells whether the person has a second factor, without which there is no signing in.
func (s Session) TwoStep() bool { return s.HasTOTP || s.HasPasskey }

// StartSession signs a person in after amr was proven and returns the token for the cookie, which is always new: a token
// planted or seen before the login is worth nothing after it (session fixation). oldToken is the cookie the browser came with, or "".
// If it is a session of the same person, that session goes on under its id, so that signing out later still ends the tokens
// that apps got in it. A session of somebody else ends as if signed out. A disabled or absent person gives ErrNotFound.
//
// passwordAt is the PasswordChangedAt of the person whose password was proven: if there is another password by now, the answer is
// ErrNotFound too, for whoever is thrown out by a new password must not slip back in with a sign-in that had begun before
// (login racing with a reset). The zero time stands for a sign-in without password. Likewise, who has a second factor by now gets no
// session for a first factor alone, though there was none when the sign-in began (login racing with an enrolment).
func (d *Directory) StartSession(ctx context.Context, userID string, amr []string, dev Device, oldToken string, passwordAt time.Time) (token string, s Session, err error) {
	now := d.now()
	token, hash := newToken()
	s = Session{UserID: userID, AuthTime: now, AMR: slices.Clone(amr), CreatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(d.sessionMax), tokenHash: hash}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		var dataKey []byte
		var changed db.Time
		if err := d.db.QueryRow(ctx, `UPDATE users SET status = status WHERE id = $1 AND status = 'active'
			RETURNING `+wrappedKey+`, email_verified, must_change_password, role, password_changed_at,
			EXISTS (SELECT 1 FROM totp t WHERE t.user_id = users.id AND t.confirmed_at IS NOT NULL),
			EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = users.id)`, userID). // as in lock
			Scan(&dataKey, &s.EmailVerified, &s.MustChangePassword, &s.Role, &changed, &s.HasTOTP, &s.HasPasskey); err != nil {
			return err
		}
		if s.TwoStep() && !Reaches(s.ACR(), ACRMFA) {
			return fmt.Errorf("a second factor meanwhile: %w", ErrNotFound)
		}
		if !passwordAt.IsZero() && !changed.Equal(passwordAt) {
			return fmt.Errorf("another password meanwhile: %w", ErrNotFound)
		}
		if s.ID, err = d.replaceSession(ctx, userID, oldToken); err != nil {
			return err
		}
		device, err := d.sealDevice(userID, s.ID, dataKey, dev)
		if err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO sessions (id, user_id, token_hash, auth_time, amr, device, created_at, last_seen_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			s.ID, userID, hash, db.At(now), db.JSON(&s.AMR), device, db.At(now), db.At(now), db.At(s.ExpiresAt)); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "session.start", Actor: userID, UserID: userID, Detail: map[string]string{"amr": strings.Join(amr, " ")}})
		return nil
	})
	if err != nil {
		return "", Session{}, fmt.Errorf("start session: %w", err)
	}
	return token, s, nil
}

// replaceSession removes the session of the browser's old cookie and gives the id for the new one.
func (d *Directory) replaceSession(ctx context.Context, userID, oldToken string) (id string, err error) {
	if validToken(oldToken) {
		var owner string
		var lastSeen, expires db.Time
		err := d.db.QueryRow(ctx, `DELETE FROM sessions WHERE token_hash = $1 RETURNING id, user_id, last_seen_at, expires_at`, hashToken(oldToken)).
			Scan(&id, &owner, &lastSeen, &expires)
		switch {
		case errors.Is(err, db.ErrNotFound):
		case err != nil:
			return "", err
		case owner != userID:
			if err := d.revoke(ctx, owner, id); err != nil {
				return "", err
			}
			d.audit.Record(ctx, audit.Event{Action: "session.end", Actor: owner, UserID: owner, Detail: map[string]string{"reason": "replaced"}})
		case expires.After(d.now()) && lastSeen.After(d.now().Add(-d.sessionIdle)):
			return id, nil
		}
	}
	fresh, err := uuid.NewV7()
	return fresh.String(), err
}

// Session finds the live session of a cookie, in one statement, or reports ErrNotFound: the person must be active, the
// session neither too old nor unused for too long.
func (d *Directory) Session(ctx context.Context, token string) (Session, error) {
	if !validToken(token) {
		return Session{}, ErrNotFound
	}
	now := d.now()
	s := Session{tokenHash: hashToken(token)}
	var authTime, created, lastSeen, expires, preferencesAt db.Time
	var dataKey, preferences, profile []byte
	err := d.db.QueryRow(ctx, `SELECT s.id, s.user_id, s.auth_time, s.amr, s.created_at, s.last_seen_at, s.expires_at,
		u.email_verified, u.must_change_password, u.role, k.wrapped, pr.sealed, pr.updated_at, CASE WHEN pr.user_id IS NULL THEN p.sealed END,
		EXISTS (SELECT 1 FROM totp t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL),
		EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = u.id),
		COALESCE(sp.undated, FALSE), COALESCE(sp.provider_id, '')
		FROM sessions s JOIN users u ON u.id = s.user_id JOIN data_keys k ON k.user_id = u.id
		LEFT JOIN preferences pr ON pr.user_id = u.id LEFT JOIN profiles p ON p.user_id = u.id LEFT JOIN session_providers sp ON sp.session_id = s.id
		WHERE s.token_hash = $1 AND s.expires_at > $2 AND s.last_seen_at > $3 AND u.status = 'active'`,
		s.tokenHash, db.At(now), db.At(now.Add(-d.sessionIdle))).
		Scan(&s.ID, &s.UserID, &authTime, db.JSON(&s.AMR), &created, &lastSeen, &expires, &s.EmailVerified, &s.MustChangePassword, &s.Role,
			&dataKey, &preferences, &preferencesAt, &profile, &s.HasTOTP, &s.HasPasskey, &s.Undated, &s.Provider)
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	if s.Preferences, err = d.sessionPreferences(s.UserID, dataKey, preferences, preferencesAt, profile); err != nil {
		return Session{}, err
	}
	s.AuthTime, s.CreatedAt, s.LastSeenAt, s.ExpiresAt = authTime.Time, created.Time, lastSeen.Time, expires.Time
	if now.Sub(s.LastSeenAt) >= min(seenEvery, d.sessionIdle/4) {
		if _, err := d.db.Exec(ctx, `UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2`, s.ID, db.At(now)); err != nil {
			d.log.WarnContext(ctx, "last use of session not written", "user_id", s.UserID, "err", err) // the next request tries again
		}
		s.LastSeenAt = now
	}
	return s, nil
}

// StepUp notes that the person behind s has proven amr just now: a password (with or without a second factor) or a passkey replaces what
// was proven before, so that AMR always says what was proven at AuthTime; a second factor alone adds to it and leaves AuthTime, since
// it does not prove the first one anew. The id stays, the
// token is new and the old one dead. s comes from Session or StartSession; if it has ended or stepped up
// meanwhile, the answer is ErrNotFound.
func (d *Directory) StepUp(ctx context.Context, s Session, amr []string) (token string, stepped Session, err error) {
	now := d.now()
	token, hash := newToken()
	methods, authTime := slices.Clone(amr), now
	if !wholeProof(amr) {
		methods, authTime = slices.Clone(s.AMR), s.AuthTime
		for _, m := range amr {
			if !slices.Contains(methods, m) {
				methods = append(methods, m)
			}
		}
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		n, err := d.db.Exec(ctx, `UPDATE sessions SET token_hash = $4, auth_time = $5, amr = $6, last_seen_at = $7
			WHERE id = $1 AND user_id = $2 AND token_hash = $3 AND expires_at > $7
			AND EXISTS (SELECT 1 FROM users u WHERE u.id = sessions.user_id AND u.status = 'active')`,
			s.ID, s.UserID, s.tokenHash, hash, db.At(authTime), db.JSON(&methods), db.At(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if wholeProof(amr) { // here, and so at a time that is known
			if _, err := d.db.Exec(ctx, `UPDATE session_providers SET undated = FALSE WHERE session_id = $1`, s.ID); err != nil {
				return err
			}
		}
		d.audit.Record(ctx, audit.Event{Action: "session.step_up", Actor: s.UserID, UserID: s.UserID, Detail: map[string]string{"amr": strings.Join(amr, " ")}})
		return nil
	})
	if err != nil {
		return "", Session{}, fmt.Errorf("step up session: %w", err)
	}
	s.AMR, s.AuthTime, s.LastSeenAt, s.tokenHash, s.Undated = methods, authTime, now, hash, s.Undated && !wholeProof(amr)
	return token, s, nil
}

// stands makes sure, in the transaction in ctx, which holds the person's row, that s has not ended and that its proof is fresh:
// whoever is thrown out, or comes back to a page that was left open, must not add a way in with the last request that was let
// through (enrolment racing with the end of the session). The session's row is held until then. It reports ErrStale.
func (d *Directory) stands(ctx context.Context, s Session) error {
	now := d.now()
	n, err := d.db.Exec(ctx, `UPDATE sessions SET last_seen_at = $3 WHERE id = $1 AND user_id = $2 AND expires_at > $3 AND last_seen_at > $4 AND auth_time > $5
		AND EXISTS (SELECT 1 FROM users u WHERE u.id = sessions.user_id AND u.status = 'active')`,
		s.ID, s.UserID, db.At(now), db.At(now.Add(-d.sessionIdle)), db.At(now.Add(-Freshness)))
	if err == nil && n == 0 {
		err = ErrStale
	}
	return err
}

// Sessions lists a person's live sessions, the newest first.
func (d *Directory) Sessions(ctx context.Context, userID string) ([]Session, error) {
	now := d.now()
	var list []Session
	err := d.db.Query(ctx, func(row db.Scanner) error {
		s := Session{UserID: userID}
		var dataKey, device []byte
		var authTime, created, lastSeen, expires db.Time
		if err := row.Scan(&s.ID, &authTime, db.JSON(&s.AMR), &device, &created, &lastSeen, &expires, &dataKey,
			&s.EmailVerified, &s.MustChangePassword, &s.Role); err != nil {
			return err
		}
		s.AuthTime, s.CreatedAt, s.LastSeenAt, s.ExpiresAt = authTime.Time, created.Time, lastSeen.Time, expires.Time
		var err error
		s.Device, err = d.openDevice(userID, s.ID, dataKey, device)
		list = append(list, s)
		return err
	}, `SELECT s.id, s.auth_time, s.amr, s.device, s.created_at, s.last_seen_at, s.expires_at, k.wrapped, u.email_verified, u.must_change_password, u.role
		FROM sessions s JOIN users u ON u.id = s.user_id JOIN data_keys k ON k.user_id = u.id
		WHERE s.user_id = $1 AND s.expires_at > $2 AND s.last_seen_at > $3 AND u.status = 'active' ORDER BY s.id DESC LIMIT 200`,
		userID, db.At(now), db.At(now.Add(-d.sessionIdle)))
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

// EndSession ends one session of a person and the tokens issued in it, or reports ErrNotFound.
func (d *Directory) EndSession(ctx context.Context, userID, sessionID string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		n, err := d.db.Exec(ctx, `DELETE FROM sessions WHERE id = $1 AND user_id = $2`, sessionID, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound // nor are its tokens revoked: it may be somebody else's
		}
		if err := d.revoke(ctx, userID, sessionID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "session.end", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndSessions ends a person's sessions and their tokens, all but one, and devices without a browser with them; with an empty exceptSessionID all, and all tokens.
// It returns how many sessions ended.
func (d *Directory) EndSessions(ctx context.Context, userID, exceptSessionID string) (ended int, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil { // a sign-in that has begun waits, or is seen
			return err
		}
		if exceptSessionID == "" {
			ended, err = d.endAll(ctx, userID)
		} else {
			if ended, err = d.endOthers(ctx, userID, exceptSessionID); err == nil {
				err = d.revokeDevices(ctx, userID)
			}
		}
		if err == nil && ended > 0 {
			d.audit.Record(ctx, audit.Event{Action: "session.end_all", Actor: userID, UserID: userID})
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return ended, nil
}

// endAll ends every session and token of a person, in the transaction in ctx, which holds the person's row.
func (d *Directory) endAll(ctx context.Context, userID string) (int, error) {
	// Each session by itself as well: until this transaction is committed they still open doors, and what is issued behind
	// them is younger than the mark on the person.
	n, err := d.endOthers(ctx, userID, "")
	if err != nil {
		return 0, err
	}
	return n, d.revoke(ctx, userID, "")
}

// endOthers ends the sessions of a person but one, in the transaction in ctx.
func (d *Directory) endOthers(ctx context.Context, userID, exceptSessionID string) (int, error) {
	var ids []string
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, `DELETE FROM sessions WHERE user_id = $1 AND id <> $2 RETURNING id`, userID, exceptSessionID)
	for _, id := range ids {
		if err == nil {
			err = d.revoke(ctx, userID, id)
		}
	}
	return len(ids), err
}

// Purge deletes sessions, mail links, files of data and invitations that are over.
func (d *Directory) Purge(ctx context.Context) error {
	now := d.now()
	if _, err := d.db.Exec(ctx, `DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2`, db.At(now), db.At(now.Add(-d.sessionIdle))); err != nil {
		return fmt.Errorf("purge sessions: %w", err)
	}
	if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE expires_at <= $1`, db.At(now)); err != nil {
		return fmt.Errorf("purge mail links: %w", err)
	}
	if _, err := d.db.Exec(ctx, `DELETE FROM invitations WHERE expires_at <= $1`, db.At(now.Add(-signUpKept))); err != nil {
		return fmt.Errorf("purge invitations: %w", err)
	}
	if _, err := d.db.Exec(ctx, `DELETE FROM exports WHERE expires_at <= $1`, db.At(now)); err != nil {
		return fmt.Errorf("purge exports: %w", err)
	}
	if err := d.forgetInvitations(ctx, ""); err != nil {
		return fmt.Errorf("purge invitations: %w", err)
	}
	return nil
}

func devicePurpose(userID, sessionID string) string { return "device:" + userID + ":" + sessionID }

func (d *Directory) sealDevice(userID, sessionID string, dataKey []byte, dev Device) ([]byte, error) {
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return nil, err
	}
	if len(dev.UserAgent) > maxUserAgent {
		dev.UserAgent = dev.UserAgent[:maxUserAgent]
	}
	dev.UserAgent = strings.ToValidUTF8(dev.UserAgent, "")
	plain, err := json.Marshal(dev)
	if err != nil {
		return nil, err
	}
	return own.Seal(plain, devicePurpose(userID, sessionID)), nil
}

func (d *Directory) openDevice(userID, sessionID string, dataKey, sealed []byte) (dev Device, err error) {
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return Device{}, err
	}
	plain, err := own.Open(sealed, devicePurpose(userID, sessionID))
	if err == nil {
		err = json.Unmarshal(plain, &dev)
	}
	if err != nil {
		return Device{}, fmt.Errorf("device of session: %w", err)
	}
	return dev, nil
}

// tokenSize is the length of a token in bytes: 256 bits.
const tokenSize = 32

// newToken makes a token for a cookie or a link, and the hash under which it is kept.
func newToken() (token string, hash []byte) {
	raw := make([]byte, tokenSize)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(raw)
	return token, hashToken(token)
}

// hashToken needs no salt: a token is random.
func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// validToken tells whether a string can be a token at all, before the database is asked.
func validToken(s string) bool { return len(s) == (tokenSize*8+5)/6 }
