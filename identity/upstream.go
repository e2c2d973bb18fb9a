package identity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// AMRFederated says that somebody else signed the person in. RFC 8176 has no value for it; Microsoft uses this one.
const AMRFederated = "fed"

// ErrLinked says that an account elsewhere is linked already: to somebody else here.
var ErrLinked = errors.New("linked to another account")

// ErrLastWayIn says that without this nobody could sign in to the account any more.
var ErrLastWayIn = errors.New("the last way in")

// maxLinked is how many accounts elsewhere one person may have.
const maxLinked = 20

// Elsewhere is who somebody is at a provider. Provider, Issuer and Subject together name one person for good; Label does not,
// and is for people to read.
type Elsewhere struct {
	Provider string `json:"-"`
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
	Label    string `json:"label"`
}

// Linked is an account elsewhere that leads into one here.
type Linked struct {
	Elsewhere
	Key       string // names it among those of its person
	CreatedAt time.Time
	UsedAt    time.Time
}

// Via is what a sign-in carries along besides its proofs.
type Via struct {
	Provider string `json:"provider,omitempty"` // it came by this one
	Connect  string `json:"connect,omitempty"`  // ticket of an account elsewhere that is to be linked when all is proven
	Next     string `json:"next,omitempty"`     // word for the page to go on to

	ProvenAt time.Time `json:"proven_at,omitzero"` // when the person last proved there, or here, who they are; zero: unknown
}

func (d *Directory) subjectIndex(e Elsewhere) []byte {
	return seal.MAC(d.linkKey, e.Provider, e.Issuer, e.Subject)
}

func linkedPurpose(userID string, index []byte) string {
	return "linked:" + userID + ":" + hex.EncodeToString(index)
}

// ByLinked gives the person to whom an account elsewhere leads, or ErrNotFound, and notes that it was used.
func (d *Directory) ByLinked(ctx context.Context, e Elsewhere) (User, error) {
	var userID string
	err := d.db.QueryRow(ctx, `UPDATE linked_accounts SET used_at = $3 WHERE provider_id = $1 AND subject_index = $2 RETURNING user_id`,
		e.Provider, d.subjectIndex(e), db.At(d.now())).Scan(&userID)
	if err != nil {
		return User{}, fmt.Errorf("read linked account: %w", err)
	}
	u, err := d.User(ctx, userID)
	if err != nil {
		return User{}, err
	}
	refused := ""
	switch u.Status {
	case StatusActive:
	case StatusClosing:
		if refused, err = d.closed(ctx, u.ID); err != nil {
			return User{}, err
		}
	default:
		refused = "disabled"
	}
	if refused != "" {
		d.audit.Record(ctx, audit.Event{Action: "linked.check", Outcome: audit.Failure, UserID: u.ID, Detail: map[string]string{"provider": e.Provider, "reason": refused}})
		return User{}, ErrCredentials
	}
	d.audit.Record(ctx, audit.Event{Action: "linked.check", Actor: u.ID, UserID: u.ID, Detail: map[string]string{"provider": e.Provider}})
	return u, nil
}

// Link lets an account elsewhere lead into a person's account. It reports ErrLinked if it leads into somebody else's; a second time
// for the same person is no error. The caller has both proven.
func (d *Directory) Link(ctx context.Context, userID string, e Elsewhere) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		var count int
		if err := d.db.QueryRow(ctx, `SELECT COUNT(*) FROM linked_accounts WHERE user_id = $1`, userID).Scan(&count); err != nil {
			return err
		}
		if count >= maxLinked {
			return ErrLinked
		}
		return d.link(ctx, userID, dataKey, e)
	})
	if err != nil {
		return fmt.Errorf("link account: %w", err)
	}
	return nil
}

// link is Link in the transaction in ctx, which holds the person's row.
func (d *Directory) link(ctx context.Context, userID string, dataKey []byte, e Elsewhere) error {
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return err
	}
	e.Label, _ = checkText(e.Label, maxName, false)
	plain, err := json.Marshal(e)
	if err != nil {
		return err
	}
	index, now := d.subjectIndex(e), db.At(d.now())
	var owner string
	var created, used db.Time
	// One statement, so that of two persons who come at once one is told.
	if err := d.db.QueryRow(ctx, `INSERT INTO linked_accounts (provider_id, subject_index, user_id, sealed, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (provider_id, subject_index) DO UPDATE SET used_at = linked_accounts.used_at RETURNING user_id, created_at, used_at`,
		e.Provider, index, userID, own.Seal(plain, linkedPurpose(userID, index)), now).Scan(&owner, &created, &used); err != nil {
		return err
	}
	if owner != userID {
		return ErrLinked
	}
	d.audit.Record(ctx, audit.Event{Action: "linked.add", Actor: userID, UserID: userID, Detail: map[string]string{"provider": e.Provider}})
	return nil
}

// CreateLinked adds a person without password, into whose account an account elsewhere leads. It reports FieldErrors, ErrEmailTaken
// or ErrLinked.
func (d *Directory) CreateLinked(ctx context.Context, n NewUser, e Elsewhere) (u User, err error) {
	n.passwordless, n.Password = true, ""
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if u, err = d.Create(ctx, n); err != nil {
			return err
		}
		dataKey, err := d.lock(ctx, u.ID)
		if err != nil {
			return err
		}
		return d.link(ctx, u.ID, dataKey, e)
	})
	return u, err
}

// LinkedAccounts lists the accounts elsewhere that lead into a person's, the oldest first.
func (d *Directory) LinkedAccounts(ctx context.Context, userID string) ([]Linked, error) {
	list := []Linked{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var l Linked
		var index, sealed, dataKey []byte
		var created, used db.Time
		if err := row.Scan(&l.Provider, &index, &sealed, &created, &used, &dataKey); err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		plain, err := own.Open(sealed, linkedPurpose(userID, index))
		if err == nil {
			err = json.Unmarshal(plain, &l.Elsewhere)
		}
		if err != nil {
			return fmt.Errorf("linked account: %w", err)
		}
		l.Key, l.CreatedAt, l.UsedAt = hex.EncodeToString(index), created.Time, used.Time
		list = append(list, l)
		return nil
	}, `SELECT l.provider_id, l.subject_index, l.sealed, l.created_at, l.used_at, k.wrapped FROM linked_accounts l JOIN data_keys k ON k.user_id = l.user_id
		WHERE l.user_id = $1 ORDER BY l.created_at, l.subject_index`, userID)
	if err != nil {
		return nil, fmt.Errorf("list linked accounts: %w", err)
	}
	return list, nil
}

// Unlink takes an account elsewhere away from the person of s, by the key that LinkedAccounts gave it, and ends the person's other
// sessions that came by its provider, and what any session let in without a browser: whoever used it may have been a stranger. It reports
// ErrNotFound, or ErrLastWayIn.
func (d *Directory) Unlink(ctx context.Context, s Session, key string) (l Elsewhere, err error) {
	index, err := hex.DecodeString(key)
	if err != nil {
		return l, ErrNotFound
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, s.UserID); err != nil { // of two links, two requests at once must not remove both
			return err
		}
		n, err := d.waysIn(ctx, s.UserID, index)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLastWayIn
		}
		if err := d.db.QueryRow(ctx, `DELETE FROM linked_accounts WHERE user_id = $1 AND subject_index = $2 RETURNING provider_id`, s.UserID, index).Scan(&l.Provider); err != nil {
			return err
		}
		if _, err := d.endWhere(ctx, `user_id = $1 AND id <> $2 AND id IN (SELECT session_id FROM session_providers WHERE provider_id = $3)`, s.UserID, s.ID, l.Provider); err != nil {
			return err
		}
		if err := d.revokeDevices(ctx, s.UserID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "linked.remove", Actor: s.UserID, UserID: s.UserID, Detail: map[string]string{"provider": l.Provider}})
		return nil
	})
	if err != nil {
		return l, fmt.Errorf("unlink account: %w", err)
	}
	return l, nil
}

// waysIn counts in how many ways a person can sign in by themselves, without one account elsewhere.
func (d *Directory) waysIn(ctx context.Context, userID string, without []byte) (n int, err error) {
	err = d.db.QueryRow(ctx, `SELECT
		(SELECT COUNT(*) FROM users WHERE id = $1 AND password_hash <> '') +
		(SELECT COUNT(*) FROM linked_accounts l JOIN providers p ON p.id = l.provider_id WHERE l.user_id = $1 AND l.subject_index <> $2 AND p.disabled = FALSE) +
		(SELECT COUNT(*) FROM passkeys WHERE user_id = $1 AND copied_at IS NULL)`,
		userID, without).Scan(&n)
	return n, err
}

// dropLinked removes every account elsewhere and every passkey of a person whose address was never proven until now, in the transaction in ctx. Somebody
// may have made the account with a stranger's address, to have a way in when the stranger comes (account pre-hijacking).
func (d *Directory) dropLinked(ctx context.Context, userID string) error {
	if _, err := d.db.Exec(ctx, `DELETE FROM linked_accounts WHERE user_id = $1`, userID); err != nil {
		return err
	}
	_, err := d.db.Exec(ctx, `DELETE FROM passkeys WHERE user_id = $1`, userID)
	return err
}

// StartSessionVia is StartSession for a sign-in that came by a provider, if via names one. A provider that is disabled by now, or at
// which the person has no linked account any more (login racing with an unlinking or a reset), gives ErrNotFound. The time of the
// session's proof is the provider's, if that says when it has asked: apps that demand a recent one (max_age) shall get one. If it does
// not, the session is Undated.
func (d *Directory) StartSessionVia(ctx context.Context, via Via, userID string, amr []string, dev Device, oldToken string, passwordAt time.Time) (token string, s Session, err error) {
	if via.Provider == "" {
		return d.StartSession(ctx, userID, amr, dev, oldToken, passwordAt)
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if token, s, err = d.StartSession(ctx, userID, amr, dev, oldToken, passwordAt); err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `INSERT INTO session_providers (session_id, provider_id, undated) SELECT $1, id, CAST($4 AS BOOLEAN) FROM providers WHERE id = $2 AND disabled = FALSE
			AND EXISTS (SELECT 1 FROM linked_accounts WHERE user_id = $3 AND provider_id = $2)`, s.ID, via.Provider, userID, via.ProvenAt.IsZero())
		s.Undated = via.ProvenAt.IsZero()
		if err == nil && n == 0 {
			err = fmt.Errorf("provider is disabled, or linked no more: %w", ErrNotFound)
		}
		if err == nil && !via.ProvenAt.IsZero() && via.ProvenAt.Before(s.AuthTime) {
			s.AuthTime = via.ProvenAt
			_, err = d.db.Exec(ctx, `UPDATE sessions SET auth_time = $2 WHERE id = $1`, s.ID, db.At(s.AuthTime))
		}
		return err
	})
	if err != nil {
		return "", Session{}, err
	}
	return token, s, nil
}

// EndProviderSessions ends every session that came by a provider, with its tokens, and returns how many.
func (d *Directory) EndProviderSessions(ctx context.Context, provider string) (ended int, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		ended, err = d.endWhere(ctx, `id IN (SELECT session_id FROM session_providers WHERE provider_id = $1)`, provider)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("end sessions of provider: %w", err)
	}
	return ended, nil
}

// ProviderOver reports whether a provider was disabled or deleted and takes with it what came by it. That of a deleted one is not
// known any more: it does.
func (d *Directory) ProviderOver(ctx context.Context, provider string) (bool, error) {
	var p struct {
		KeepSession bool `json:"keep_sessions"`
	}
	var disabled bool
	err := d.db.QueryRow(ctx, `SELECT disabled, metadata FROM providers WHERE id = $1`, provider).Scan(&disabled, db.JSON(&p))
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read provider: %w", err)
	}
	return disabled && !p.KeepSession, nil
}

// endWhere ends the sessions that a condition names, in the transaction in ctx.
func (d *Directory) endWhere(ctx context.Context, condition string, args ...any) (int, error) {
	type session struct{ id, userID string }
	var list []session
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var s session
		err := row.Scan(&s.id, &s.userID)
		list = append(list, s)
		return err
	}, `DELETE FROM sessions WHERE `+condition+` RETURNING id, user_id`, args...)
	for _, s := range list {
		if err == nil {
			err = d.revoke(ctx, s.userID, s.id)
		}
		d.audit.Record(ctx, audit.Event{Action: "session.end", UserID: s.userID, Detail: map[string]string{"reason": "provider"}})
	}
	return len(list), err
}

// ProfileFrom makes a profile of what a provider says about somebody, by the claim names of the fields. What cannot stand is
// left out: it is nothing the person could mend.
func (d *Directory) ProfileFrom(fields map[string]string) Profile {
	fields = maps.Clone(fields)
	maps.DeleteFunc(fields, func(name, _ string) bool { return name == "phone_number_verified" || name == "address" }) // no text
	plain, err := json.Marshal(fields)
	if err != nil {
		return Profile{}
	}
	var p Profile
	if err := json.Unmarshal(plain, &p); err != nil {
		return Profile{}
	}
	wrong := FieldErrors{}
	p.normal(d.now(), wrong)
	if len(wrong) == 0 {
		return p
	}
	rest := map[string]string{}
	for name, value := range fields {
		if wrong[name] == "" {
			rest[name] = value
		}
	}
	if len(rest) == len(fields) {
		return Profile{}
	}
	return d.ProfileFrom(rest)
}

// RefreshProfile overwrites the named fields of a person's profile by what a provider says; what it does not say stays.
func (d *Directory) RefreshProfile(ctx context.Context, u User, fields map[string]string, names []string) error {
	fresh := map[string]string{}
	for name, value := range fields {
		if slices.Contains(names, name) {
			fresh[name] = value
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	said, err := json.Marshal(d.ProfileFrom(fresh)) // leaves out what is empty
	if err != nil {
		return err
	}
	p := u.Profile
	if err := json.Unmarshal(said, &p); err != nil {
		return err
	}
	if p == u.Profile {
		return nil
	}
	return d.SetProfile(ctx, u.ID, p)
}
