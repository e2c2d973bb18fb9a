package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Roles and states of a person.
const (
	RoleUser       = "user"
	RoleAdmin      = "admin"
	StatusActive   = "active"
	StatusDisabled = "disabled"
	StatusClosing  = "closing" // closed by the person, and soon erased: see AskErasure
)

// maxUsers bounds one page of Users.
const maxUsers = 200

// User is a person's account.
type User struct {
	ID                 string // UUIDv7
	Email              string
	EmailVerified      bool
	Role               string // RoleUser or RoleAdmin
	Status             string // StatusActive, StatusDisabled or StatusClosing
	MustChangePassword bool
	HasPassword        bool
	HasTOTP            bool // an authenticator app (confirmed)
	HasPasskey         bool
	CreatedAt          time.Time
	UpdatedAt          time.Time
	PasswordChangedAt  time.Time
	Profile            Profile
	Preferences        Preferences // in force: with none set, as the profile says
}

// TwoStep tells whether the person has a second factor, without which there is no signing in.
func (u User) TwoStep() bool { return u.HasTOTP || u.HasPasskey }

// NewUser is what an account starts with. EmailVerified, MustChangePassword and Role are the operator's to set, never a
// form's.
type NewUser struct {
	Email              string
	Password           string
	Profile            Profile
	EmailVerified      bool
	MustChangePassword bool
	Role               string // empty: RoleUser

	passwordless bool // see CreateLinked
}

// Create adds a person. It reports FieldErrors for bad input and ErrEmailTaken for a known address; both a free and a
// taken address cost a password hash first, so that time does not tell them apart (account enumeration).
func (d *Directory) Create(ctx context.Context, n NewUser) (User, error) {
	wrong := FieldErrors{}
	email, ok := NormalEmail(n.Email)
	if !ok {
		wrong["email"] = KeyEmailInvalid
	}
	if n.Role == "" {
		n.Role = RoleUser
	}
	if n.Role != RoleUser && n.Role != RoleAdmin {
		wrong["role"] = KeyRoleInvalid
	}
	profile := n.Profile.normal(d.now(), wrong)
	profile.PhoneNumberVerified = false // nobody has proven it
	if key := passwordProblem(n.Password, personalInputs(email, profile)); key != "" && !n.passwordless {
		wrong["password"] = key
	}
	if err := wrong.err(); err != nil {
		return User{}, err
	}
	hash := ""
	if !n.passwordless {
		var err error
		if hash, err = d.hasher.hash(ctx, n.Password); err != nil {
			return User{}, fmt.Errorf("hash password: %w", err)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return User{}, err
	}
	now := d.now()
	u := User{
		ID: id.String(), Email: email, EmailVerified: n.EmailVerified, Role: n.Role, Status: StatusActive, HasPassword: true,
		MustChangePassword: n.MustChangePassword, CreatedAt: now, UpdatedAt: now, PasswordChangedAt: now, Profile: profile,
	}
	u.Profile.UpdatedAt = now
	u.Preferences = u.Preferences.inForce(profile)
	if n.passwordless {
		u.HasPassword, u.PasswordChangedAt = false, time.Time{}
	}
	own, wrapped, err := d.seal.NewPerson(u.ID)
	if err != nil {
		return User{}, err
	}
	sealed, err := sealProfile(own, u.ID, profile)
	if err != nil {
		return User{}, err
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.db.Exec(ctx, `INSERT INTO users (id, email_index, email, email_verified, password_hash,
			password_changed_at, must_change_password, role, status, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			u.ID, d.emailIndex(email), own.Seal([]byte(email), emailPurpose(u.ID)), u.EmailVerified, hash,
			db.At(u.PasswordChangedAt), u.MustChangePassword, u.Role, u.Status, db.At(now), db.At(now)); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO data_keys (user_id, wrapped) VALUES ($1, $2)`, u.ID, wrapped); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO profiles (user_id, sealed, updated_at) VALUES ($1, $2, $3)`, u.ID, sealed, db.At(now)); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "user.create", UserID: u.ID, Detail: map[string]string{"role": u.Role}})
		return nil
	})
	if errors.Is(err, db.ErrConflict) {
		return User{}, ErrEmailTaken
	}
	if err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	return u, nil
}

// User returns the person with an id, in one statement, or ErrNotFound.
func (d *Directory) User(ctx context.Context, id string) (User, error) {
	r, err := scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.id = $1`, id))
	if err != nil {
		return User{}, fmt.Errorf("read user: %w", err)
	}
	return d.openUser(r)
}

// UserByEmail returns the person with an address in any spelling, or ErrNotFound.
func (d *Directory) UserByEmail(ctx context.Context, email string) (User, error) {
	r, err := scanUser(d.db.QueryRow(ctx, userSelect+` WHERE u.email_index = $1`, d.emailIndex(email)))
	if err != nil {
		return User{}, fmt.Errorf("read user: %w", err)
	}
	return d.openUser(r)
}

// Users lists people by id, oldest first, from the one after "after"; at most 200 at once.
func (d *Directory) Users(ctx context.Context, after string, limit int) ([]User, error) {
	if limit <= 0 || limit > maxUsers {
		limit = maxUsers
	}
	var users []User
	err := d.db.Query(ctx, func(row db.Scanner) error {
		r, err := scanUser(row)
		if err != nil {
			return err
		}
		u, err := d.openUser(r)
		users = append(users, u)
		return err
	}, userSelect+` WHERE u.id > $1 ORDER BY u.id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// SetStatus enables or disables a person. Both directions end all sessions, so that nothing from before is revived
// when a person is enabled again. Enabling also calls off an erasure; disabling does not.
func (d *Directory) SetStatus(ctx context.Context, id, status string) error {
	if status != StatusActive && status != StatusDisabled {
		return FieldErrors{"status": KeyStatusInvalid}
	}
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		n, err := d.db.Exec(ctx, `UPDATE users SET status = $2, updated_at = $3 WHERE id = $1`, id, status, db.At(d.now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if status == StatusActive {
			if _, err := d.db.Exec(ctx, `DELETE FROM erasures WHERE user_id = $1`, id); err != nil {
				return err
			}
		}
		if _, err := d.db.Exec(ctx, `DELETE FROM mail_links WHERE user_id = $1`, id); err != nil {
			return err
		}
		if _, err := d.endAll(ctx, id); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "user.status", UserID: id, Detail: map[string]string{"status": status}})
		return nil
	})
	if err != nil {
		return fmt.Errorf("set status of user: %w", err)
	}
	return nil
}

// userRow is a row of userSelect, still sealed.
type userRow struct {
	user                             User
	passwordHash                     string
	decoy                            string // without a user: whose password's time to take instead
	dataKey, email, profile          []byte
	profileAt, created, updated, pwd db.Time
	preferences                      []byte
	preferencesAt                    db.Time
}

const userSelect = `SELECT u.id, k.wrapped, u.email, u.email_verified, u.password_hash, u.password_changed_at, u.must_change_password,
	u.role, u.status, u.created_at, u.updated_at, p.sealed, p.updated_at, pr.sealed, pr.updated_at, t.confirmed_at IS NOT NULL,
	EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = u.id)
	FROM users u JOIN data_keys k ON k.user_id = u.id LEFT JOIN profiles p ON p.user_id = u.id
	LEFT JOIN preferences pr ON pr.user_id = u.id LEFT JOIN totp t ON t.user_id = u.id`

func scanUser(row db.Scanner) (r userRow, err error) {
	u := &r.user
	err = row.Scan(&u.ID, &r.dataKey, &r.email, &u.EmailVerified, &r.passwordHash, &r.pwd, &u.MustChangePassword,
		&u.Role, &u.Status, &r.created, &r.updated, &r.profile, &r.profileAt, &r.preferences, &r.preferencesAt, &u.HasTOTP, &u.HasPasskey)
	return r, err
}

// openUser opens what a row keeps sealed.
func (d *Directory) openUser(r userRow) (User, error) {
	u := r.user
	own, err := d.ownSealer(u.ID, r.dataKey)
	if err != nil {
		return User{}, err
	}
	email, err := own.Open(r.email, emailPurpose(u.ID))
	if err != nil {
		return User{}, fmt.Errorf("address of user %s: %w", u.ID, err)
	}
	if u.Profile, err = openProfile(own, u.ID, r.profile); err != nil {
		return User{}, err
	}
	if u.Preferences, err = openPreferences(own, u.ID, r.preferences, r.preferencesAt); err != nil {
		return User{}, err
	}
	u.Preferences = u.Preferences.inForce(u.Profile)
	u.Email = string(email)
	u.HasPassword = r.passwordHash != ""
	u.CreatedAt, u.UpdatedAt, u.PasswordChangedAt, u.Profile.UpdatedAt = r.created.Time, r.updated.Time, r.pwd.Time, r.profileAt.Time
	return u, nil
}

// lock holds a person's row until the transaction in ctx ends and returns the person's data key, still sealed (nil if it is
// gone), or ErrNotFound. A no-op update is the portable way to lock one row. Transactions take this lock before any other row of the
// person, so that no two wait for each other.
func (d *Directory) lock(ctx context.Context, id string) (dataKey []byte, err error) {
	err = d.db.QueryRow(ctx, `UPDATE users SET status = status WHERE id = $1 RETURNING `+wrappedKey, id).Scan(&dataKey)
	return dataKey, err
}

// What each sealed value is sealed for: none opens in another row or column.
func emailPurpose(id string) string   { return "email:" + id }
func profilePurpose(id string) string { return "profile:" + id }

func sealProfile(own *seal.Sealer, id string, p Profile) ([]byte, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return own.Seal(plain, profilePurpose(id)), nil
}

func openProfile(own *seal.Sealer, id string, sealed []byte) (p Profile, err error) {
	if len(sealed) == 0 {
		return Profile{}, nil
	}
	plain, err := own.Open(sealed, profilePurpose(id))
	if err == nil {
		err = json.Unmarshal(plain, &p)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("profile of user %s: %w", id, err)
	}
	return p, nil
}
