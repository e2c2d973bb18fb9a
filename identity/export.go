package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Holdings is what the directory holds about a person, for the person to read. It has no secrets: no password hash, seed, code or
// token, in whatever form; the public halves of passkeys are none.
type Holdings struct {
	Account   HeldAccount   `json:"account"`
	Profile   Profile       `json:"profile"`
	Factors   HeldFactors   `json:"factors"`
	Sessions  []HeldSession `json:"sessions"`
	MailLinks []HeldLink    `json:"mail_links"`
	Linked    []HeldLinked  `json:"linked_accounts"`
	Rights    HeldRights    `json:"rights"`

	Preferences *HeldPreferences `json:"preferences,omitempty"` // nil: none were set
}

// HeldAccount is a row of users, of erasures and of imported.
type HeldAccount struct {
	ID                 string    `json:"id"`
	Email              string    `json:"email"`
	EmailVerified      bool      `json:"email_verified"`
	Role               string    `json:"role"`
	Status             string    `json:"status"`
	HasPassword        bool      `json:"has_password"`
	PasswordChangedAt  time.Time `json:"password_changed_at,omitzero"`
	MustChangePassword bool      `json:"must_change_password"`
	CreatedAt          time.Time `json:"created_at"`
	UpdatedAt          time.Time `json:"updated_at"`
	ErasureDueAt       time.Time `json:"erasure_due_at,omitzero"`

	Imported []HeldImport `json:"imported,omitempty"`
}

// HeldPreferences is a row of preferences.
type HeldPreferences struct {
	Preferences
	UpdatedAt time.Time `json:"updated_at"`
}

// HeldFactors tells which factors a person has beside the password.
type HeldFactors struct {
	TOTP              *HeldTOTP `json:"totp"` // null: none
	RecoveryCodesLeft int       `json:"recovery_codes_left"`

	Passkeys []HeldPasskey `json:"passkeys"`
}

// HeldPasskey is a row of passkeys, without what only the server needs of it.
type HeldPasskey struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	CredentialID []byte    `json:"credential_id"`
	PublicKey    []byte    `json:"public_key"`           // COSE
	AAGUID       []byte    `json:"aaguid,omitempty"`     // the model of the authenticator
	Transports   []string  `json:"transports,omitempty"` // how browsers reach it
	Synced       bool      `json:"synced"`
	SignCount    uint32    `json:"sign_count"`
	Copied       bool      `json:"copied"` // refused, because it seems to have a copy
	CreatedAt    time.Time `json:"created_at"`
	UsedAt       time.Time `json:"used_at,omitzero"`
}

// HeldTOTP is a row of totp.
type HeldTOTP struct {
	CreatedAt   time.Time `json:"created_at"`
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
}

// HeldSession is a row of sessions, live or not yet purged.
type HeldSession struct {
	ID         string    `json:"id"`
	Device     Device    `json:"device"`
	AMR        []string  `json:"amr"`
	Provider   string    `json:"provider,omitempty"` // it came by this one
	AuthTime   time.Time `json:"auth_time"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// HeldLink is a row of mail_links.
type HeldLink struct {
	Purpose   Purpose   `json:"purpose"`
	Email     string    `json:"email"`
	About     Act       `json:"about,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
}

// HeldLinked is a row of linked_accounts.
type HeldLinked struct {
	Provider  string    `json:"provider"`
	Issuer    string    `json:"issuer"`
	Subject   string    `json:"subject"`
	Label     string    `json:"label,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at"`
}

// Holdings tells everything that the directory holds about a person.
func (d *Directory) Holdings(ctx context.Context, userID string) (h Holdings, err error) {
	u, err := d.User(ctx, userID)
	if err != nil {
		return h, err
	}
	due, err := d.ErasureDue(ctx, userID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return h, err
	}
	h.Account = HeldAccount{
		ID: u.ID, Email: u.Email, EmailVerified: u.EmailVerified, Role: u.Role, Status: u.Status, HasPassword: u.HasPassword,
		PasswordChangedAt: u.PasswordChangedAt, MustChangePassword: u.MustChangePassword, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt, ErasureDueAt: due,
	}
	if h.Account.Imported, err = d.heldImports(ctx, userID); err != nil {
		return h, fmt.Errorf("read imports: %w", err)
	}
	h.Profile = u.Profile
	if !u.Preferences.UpdatedAt.IsZero() {
		h.Preferences = &HeldPreferences{u.Preferences, u.Preferences.UpdatedAt}
	}
	var created, confirmed db.Time
	switch err := d.db.QueryRow(ctx, `SELECT created_at, confirmed_at FROM totp WHERE user_id = $1`, userID).Scan(&created, &confirmed); {
	case err == nil:
		h.Factors.TOTP = &HeldTOTP{created.Time, confirmed.Time}
	case !errors.Is(err, db.ErrNotFound):
		return h, fmt.Errorf("read factors: %w", err)
	}
	if h.Factors.RecoveryCodesLeft, err = d.RecoveryCodesLeft(ctx, userID); err != nil {
		return h, err
	}
	passkeys, err := d.passkeyRows(ctx, userID)
	if err != nil {
		return h, err
	}
	h.Factors.Passkeys = make([]HeldPasskey, 0, len(passkeys))
	for _, k := range passkeys {
		h.Factors.Passkeys = append(h.Factors.Passkeys, HeldPasskey{
			ID: k.ID, Name: k.Name, CredentialID: k.stored.Credential, PublicKey: k.stored.PublicKey, AAGUID: k.stored.AAGUID,
			Transports: k.stored.Transports, Synced: k.Synced, SignCount: k.signCount, Copied: k.Copied, CreatedAt: k.CreatedAt, UsedAt: k.UsedAt,
		})
	}
	if h.Sessions, err = d.heldSessions(ctx, userID); err != nil {
		return h, fmt.Errorf("read sessions: %w", err)
	}
	if h.MailLinks, err = d.heldLinks(ctx, userID); err != nil {
		return h, fmt.Errorf("read mail links: %w", err)
	}
	linked, err := d.LinkedAccounts(ctx, userID)
	if err != nil {
		return h, err
	}
	h.Linked = []HeldLinked{}
	for _, l := range linked {
		h.Linked = append(h.Linked, HeldLinked{l.Provider, l.Issuer, l.Subject, l.Label, l.CreatedAt, l.UsedAt})
	}
	if h.Rights, err = d.heldRights(ctx, userID); err != nil {
		return h, err
	}
	return h, nil
}

func (d *Directory) heldSessions(ctx context.Context, userID string) ([]HeldSession, error) {
	list := []HeldSession{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var s HeldSession
		var dataKey, device []byte
		var authTime, created, lastSeen, expires db.Time
		if err := row.Scan(&s.ID, &authTime, db.JSON(&s.AMR), &device, &created, &lastSeen, &expires, &dataKey, &s.Provider); err != nil {
			return err
		}
		s.AuthTime, s.CreatedAt, s.LastSeenAt, s.ExpiresAt = authTime.Time, created.Time, lastSeen.Time, expires.Time
		var err error
		s.Device, err = d.openDevice(userID, s.ID, dataKey, device)
		list = append(list, s)
		return err
	}, `SELECT s.id, s.auth_time, s.amr, s.device, s.created_at, s.last_seen_at, s.expires_at, k.wrapped, COALESCE(sp.provider_id, '')
		FROM sessions s JOIN data_keys k ON k.user_id = s.user_id LEFT JOIN session_providers sp ON sp.session_id = s.id WHERE s.user_id = $1 ORDER BY s.id`, userID)
	return list, err
}

func (d *Directory) heldLinks(ctx context.Context, userID string) ([]HeldLink, error) {
	list := []HeldLink{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var l HeldLink
		var hash, sealed, dataKey []byte
		var expires db.Time
		if err := row.Scan(&hash, (*string)(&l.Purpose), &sealed, (*string)(&l.About), &expires, &dataKey); err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		email, err := own.Open(sealed, l.Purpose.sealedFor(userID, hash))
		l.Email, l.ExpiresAt = string(email), expires.Time
		list = append(list, l)
		return err
	}, `SELECT l.token_hash, l.purpose, l.email, l.about, l.expires_at, k.wrapped FROM mail_links l JOIN data_keys k ON k.user_id = l.user_id
		WHERE l.user_id = $1 ORDER BY l.purpose`, userID)
	return list, err
}

// Export is a file with a person's data: asked for, in the making, or waiting to be fetched. The file lies in SQL, where every
// replica reaches it, sealed under the person's own key.
type Export struct {
	ID        string
	UserID    string
	Done      int // parts
	Parts     int // 0: nobody has begun
	AskedAt   time.Time
	ReadyAt   time.Time // zero: not yet
	ExpiresAt time.Time
}

// Ready reports whether the file is complete.
func (e Export) Ready() bool { return !e.ReadyAt.IsZero() }

// abandoned is how long a process that makes a file may be silent before another one takes over.
const abandoned = 5 * time.Minute

const exportColumns = `id, user_id, parts_done, parts, asked_at, ready_at, expires_at`

func scanExport(row db.Scanner) (e Export, err error) {
	var asked, ready, expires db.Time
	err = row.Scan(&e.ID, &e.UserID, &e.Done, &e.Parts, &asked, &ready, &expires)
	e.AskedAt, e.ReadyAt, e.ExpiresAt = asked.Time, ready.Time, expires.Time
	return e, err
}

// AskExport asks for a file with everything held about a person. It takes the place of one that is ready; one in the
// making goes on.
func (d *Directory) AskExport(ctx context.Context, userID string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		now := d.now()
		n, err := d.db.Exec(ctx, `INSERT INTO exports (user_id, id, parts_done, parts, asked_at, expires_at) VALUES ($1, $2, 0, 0, $3, $4)
			ON CONFLICT (user_id) DO UPDATE SET id = excluded.id, parts_done = 0, parts = 0, sealed = NULL, asked_at = excluded.asked_at,
				claimed_at = NULL, ready_at = NULL, expires_at = excluded.expires_at
			WHERE exports.ready_at IS NOT NULL OR exports.expires_at <= excluded.asked_at`,
			userID, id.String(), db.At(now), db.At(now.Add(d.exportLife)))
		if err == nil && n > 0 {
			d.audit.Record(ctx, audit.Event{Action: "export.ask", Actor: userID, UserID: userID})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("ask for export: %w", err)
	}
	return nil
}

// Export tells how a person's file is coming along, or ErrNotFound if there is none.
func (d *Directory) Export(ctx context.Context, userID string) (Export, error) {
	e, err := scanExport(d.db.QueryRow(ctx, `SELECT `+exportColumns+` FROM exports WHERE user_id = $1 AND expires_at > $2`, userID, db.At(d.now())))
	if err != nil {
		return Export{}, fmt.Errorf("read export: %w", err)
	}
	return e, nil
}

// ClaimExport gives a file that nobody is making to the caller, to be made, or ErrNotFound. Of many callers one gets it.
func (d *Directory) ClaimExport(ctx context.Context) (Export, error) {
	now := d.now()
	e, err := scanExport(d.db.QueryRow(ctx, `UPDATE exports SET claimed_at = $1 WHERE ready_at IS NULL AND (claimed_at IS NULL OR claimed_at <= $2)
		AND id = (SELECT id FROM exports WHERE ready_at IS NULL AND expires_at > $1 AND (claimed_at IS NULL OR claimed_at <= $2) ORDER BY asked_at LIMIT 1)
		RETURNING `+exportColumns, db.At(now), db.At(now.Add(-abandoned))))
	if err != nil {
		return Export{}, fmt.Errorf("claim export: %w", err)
	}
	return e, nil
}

// AdvanceExport notes how far a claimed file has come, or reports ErrNotFound if it is not wanted any more.
func (d *Directory) AdvanceExport(ctx context.Context, e Export, done, parts int) error {
	n, err := d.db.Exec(ctx, `UPDATE exports SET parts_done = $3, parts = $4, claimed_at = $5 WHERE user_id = $1 AND id = $2 AND ready_at IS NULL`,
		e.UserID, e.ID, done, parts, db.At(d.now()))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("advance export: %w", err)
	}
	return nil
}

func exportPurpose(e Export) string { return "export:" + e.UserID + ":" + e.ID }

// FinishExport seals a claimed file under its person's key and keeps it until the moment it returns. ErrNotFound: it was finished
// by another, or the person is gone.
func (d *Directory) FinishExport(ctx context.Context, e Export, file []byte) (expires time.Time, err error) {
	now := d.now()
	expires = now.Add(d.exportLife)
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, e.UserID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(e.UserID, dataKey)
		if err != nil {
			return err
		}
		n, err := d.db.Exec(ctx, `UPDATE exports SET sealed = $3, parts_done = parts, ready_at = $4, expires_at = $5
			WHERE user_id = $1 AND id = $2 AND ready_at IS NULL`, e.UserID, e.ID, own.Seal(file, exportPurpose(e)), db.At(now), db.At(expires))
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("finish export: %w", err)
	}
	return expires, nil
}

// OpenExport gives a finished file to the person it is about. The id of anybody else's is an unknown one: ErrNotFound, as
// for one that has expired.
func (d *Directory) OpenExport(ctx context.Context, userID, id string) ([]byte, error) {
	var sealed, dataKey []byte
	err := d.db.QueryRow(ctx, `SELECT e.sealed, k.wrapped FROM exports e JOIN users u ON u.id = e.user_id JOIN data_keys k ON k.user_id = u.id
		WHERE e.user_id = $1 AND e.id = $2 AND e.ready_at IS NOT NULL AND e.expires_at > $3 AND u.status = 'active'`, userID, id, db.At(d.now())).Scan(&sealed, &dataKey)
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return nil, err
	}
	file, err := own.Open(sealed, exportPurpose(Export{ID: id, UserID: userID}))
	if err != nil {
		return nil, fmt.Errorf("export of user %s: %w", userID, err)
	}
	d.audit.Record(ctx, audit.Event{Action: "export.fetch", Actor: userID, UserID: userID})
	return file, nil
}
