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
)

const (
	// signUpsAtOnce bounds one round of SendSignUpInvitations, maxSignUps one page of SignUpInvitations.
	signUpsAtOnce = 100
	maxSignUps    = 1000

	// MaxInvitationLife is how long an invitation can be open.
	MaxInvitationLife = 90 * 24 * time.Hour

	// signUpKept is how long an invitation that is over explains itself to whoever follows its link.
	signUpKept = 30 * 24 * time.Hour
)

var (
	// ErrInvited says that there is an open invitation for an address.
	ErrInvited = errors.New("invited already")
	// ErrInvitationUsed says that an invitation was accepted before.
	ErrInvitationUsed = fmt.Errorf("invitation was accepted: %w", ErrLink)
	// ErrInvitationExpired says that an invitation is too old.
	ErrInvitationExpired = fmt.Errorf("invitation has expired: %w", ErrLink)
)

// SignUpInvitation lets the holder of an address make an account, whoever else may or may not.
type SignUpInvitation struct {
	ID        string // UUIDv7
	Email     string
	Language  string // of the mail, "" for the server's choice
	Role      string
	Sent      bool   // its mail has been sent
	Group     string // whose admin has invited; "": an operator has
	CreatedAt time.Time
	ExpiresAt time.Time
}

// signUpSecret is what is sealed of an invitation.
type signUpSecret struct {
	Email    string `json:"email"`
	Language string `json:"language,omitempty"`
}

func signUpPurpose(id string) string { return "invitation:" + id }

// InviteToSignUp invites an address; a replica of the server mails the link (SendSignUpInvitations). Of n only Email, Language and Role
// count. life 0 takes the configured one. FieldErrors, ErrEmailTaken if there is an account, ErrInvited if there is an open
// invitation. actor is who invites, for the audit log.
func (d *Directory) InviteToSignUp(ctx context.Context, n SignUpInvitation, life time.Duration, actor string) (SignUpInvitation, error) {
	return d.inviteToSignUp(ctx, n, d.signUpLife(life), actor, "")
}

// InviteToSignUpFor is InviteToSignUp for somebody who is asked to join a group and has no account. The invitation is worth something as
// long as that to the group is, and while whoever has invited is an admin of it. ErrNotFound if there is none any more.
func (d *Directory) InviteToSignUpFor(ctx context.Context, in Invitation, language string) (SignUpInvitation, error) {
	inv, err := d.inviteToSignUp(ctx, SignUpInvitation{Email: in.Email, Language: language}, in.ExpiresAt.Sub(d.now()), in.InviterID, in.ID)
	if !errors.Is(err, ErrInvited) {
		return inv, err
	}
	// Invited into the same group once more: another mail, with another link.
	inv, _, again := d.scanSignUp(d.db.QueryRow(ctx, `UPDATE invitations SET told = FALSE, token_hash = NULL, expires_at = $2
		WHERE email_index = $1 AND group_invitation = $3 RETURNING `+signUpColumns, d.emailIndex(in.Email), db.At(in.ExpiresAt), in.ID))
	switch {
	case errors.Is(again, ErrNotFound): // it is an operator's, or by another group
		return SignUpInvitation{}, err
	case again != nil:
		return SignUpInvitation{}, fmt.Errorf("invite again: %w", again)
	}
	return inv, nil
}

func (d *Directory) inviteToSignUp(ctx context.Context, n SignUpInvitation, life time.Duration, actor, group string) (SignUpInvitation, error) {
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
	n.Language = Profile{Locale: n.Language}.normal(d.now(), wrong).Locale // it becomes the person's
	if err := wrong.err(); err != nil {
		return SignUpInvitation{}, err
	}
	if _, err := d.UserByEmail(ctx, email); err == nil {
		return SignUpInvitation{}, ErrEmailTaken
	} else if !errors.Is(err, ErrNotFound) {
		return SignUpInvitation{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return SignUpInvitation{}, err
	}
	now := d.now()
	inv := SignUpInvitation{ID: id.String(), Email: email, Language: n.Language, Role: n.Role, CreatedAt: now, ExpiresAt: now.Add(life)}
	plain, err := json.Marshal(signUpSecret{Email: email, Language: n.Language})
	if err != nil {
		return SignUpInvitation{}, fmt.Errorf("invite: %w", err)
	}
	index := d.emailIndex(email)
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.db.Exec(ctx, `DELETE FROM invitations WHERE email_index = $1 AND expires_at <= $2`, index, db.At(now)); err != nil {
			return err
		}
		if group != "" { // it must not be taken back meanwhile
			if err := one(d.db.Exec(ctx, `UPDATE group_invitations SET user_id = user_id WHERE id = $1`, group)); err != nil {
				return err
			}
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO invitations (id, email_index, sealed, role, told, created_at, expires_at, group_invitation)
			VALUES ($1, $2, $3, $4, FALSE, $5, $6, (SELECT id FROM group_invitations WHERE id = $7))`,
			inv.ID, index, d.seal.Seal(plain, signUpPurpose(inv.ID)), inv.Role, db.At(now), db.At(inv.ExpiresAt), group); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "invitation.create", Actor: actor, Detail: map[string]string{"invitation": inv.ID, "role": inv.Role}})
		return nil
	})
	if errors.Is(err, db.ErrConflict) {
		return SignUpInvitation{}, ErrInvited
	}
	if err != nil {
		return SignUpInvitation{}, fmt.Errorf("invite: %w", err)
	}
	return inv, nil
}

func (d *Directory) signUpLife(life time.Duration) time.Duration {
	return min(or(life, d.linkLife.Invite), MaxInvitationLife)
}

// SignUpInvitations lists those that were not accepted, expired ones included, from the one after "after", oldest first.
func (d *Directory) SignUpInvitations(ctx context.Context, after string, limit int) ([]SignUpInvitation, error) {
	if limit <= 0 || limit > maxSignUps {
		limit = maxSignUps
	}
	var list []SignUpInvitation
	err := d.db.Query(ctx, func(row db.Scanner) error {
		inv, _, err := d.scanSignUp(row)
		list = append(list, inv)
		return err
	}, signUpSelect+` WHERE id > $1 AND accepted_at IS NULL ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return list, nil
}

// RevokeSignUpInvitation withdraws the invitation of an address: its link is worth nothing from now on. ErrNotFound.
func (d *Directory) RevokeSignUpInvitation(ctx context.Context, email, actor string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		var id string
		if err := d.db.QueryRow(ctx, `DELETE FROM invitations WHERE email_index = $1 RETURNING id`, d.emailIndex(email)).Scan(&id); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "invitation.revoke", Actor: actor, Detail: map[string]string{"invitation": id}})
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke invitation: %w", err)
	}
	return nil
}

// ResendSignUpInvitation has another mail sent, with another link and a new life; links in older mails die at once. ErrNotFound.
func (d *Directory) ResendSignUpInvitation(ctx context.Context, email string, life time.Duration, actor string) (inv SignUpInvitation, err error) {
	now := d.now()
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		if inv, _, err = d.scanSignUp(d.db.QueryRow(ctx, `UPDATE invitations SET told = FALSE, token_hash = NULL, expires_at = $2 WHERE email_index = $1
			RETURNING `+signUpColumns, d.emailIndex(email), db.At(now.Add(d.signUpLife(life))))); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "invitation.resend", Actor: actor, Detail: map[string]string{"invitation": inv.ID}})
		return nil
	})
	if err != nil {
		return SignUpInvitation{}, fmt.Errorf("resend invitation: %w", err)
	}
	return inv, nil
}

// SendSignUpInvitations hands each invitation whose mail is due to send, with the token for its link, once over all replicas. One that
// send refuses is due again.
func (d *Directory) SendSignUpInvitations(ctx context.Context, send func(ctx context.Context, inv SignUpInvitation, token string) error) error {
	var ids []string
	if err := d.db.Query(ctx, scanID(&ids), `SELECT id FROM invitations WHERE NOT told AND expires_at > $1 ORDER BY created_at LIMIT $2`,
		db.At(d.now()), signUpsAtOnce); err != nil {
		return fmt.Errorf("unsent invitations: %w", err)
	}
	var failed error
	for _, id := range ids {
		token, hash := newToken()
		inv, _, err := d.scanSignUp(d.db.QueryRow(ctx, `UPDATE invitations SET told = TRUE, token_hash = $2 WHERE id = $1 AND NOT told
			RETURNING `+signUpColumns, id, hash))
		if errors.Is(err, db.ErrNotFound) { // another replica was quicker, or it was revoked
			continue
		}
		if err == nil {
			if err = send(ctx, inv, token); err != nil {
				_, undo := d.db.Exec(ctx, `UPDATE invitations SET told = FALSE WHERE id = $1 AND token_hash = $2`, id, hash)
				err = errors.Join(err, undo)
			}
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// CheckSignUpInvitation tells whom a link invites without using it up: mail scanners open links too. ErrInvitationUsed,
// ErrInvitationExpired, or ErrLink if it is unknown, revoked or replaced by a newer one.
func (d *Directory) CheckSignUpInvitation(ctx context.Context, token string) (SignUpInvitation, error) {
	if !validToken(token) {
		return SignUpInvitation{}, ErrLink
	}
	inv, accepted, err := d.scanSignUp(d.db.QueryRow(ctx, signUpSelect+` WHERE token_hash = $1`, hashToken(token)))
	switch {
	case errors.Is(err, db.ErrNotFound):
		return SignUpInvitation{}, ErrLink
	case err != nil:
		return SignUpInvitation{}, fmt.Errorf("read invitation: %w", err)
	case accepted:
		return SignUpInvitation{}, ErrInvitationUsed
	case !inv.ExpiresAt.After(d.now()):
		return SignUpInvitation{}, ErrInvitationExpired
	}
	return inv, nil
}

// AcceptSignUpInvitation uses up an invitation and makes the account, with the address of the invitation, which its link has proven.
// A name or password that will not do (FieldErrors) leaves it alive; ErrEmailTaken says that there is an account by now.
func (d *Directory) AcceptSignUpInvitation(ctx context.Context, token, name, password string) (User, error) {
	inv, err := d.CheckSignUpInvitation(ctx, token) // before the hash: strangers get no work out of us
	if err != nil {
		return User{}, err
	}
	n := NewUser{Email: inv.Email, Password: password, EmailVerified: true, Role: inv.Role, Profile: Profile{Name: name, Locale: inv.Language}}
	if err := d.ValidatePassword(password, personalInputs(n.Email, n.Profile)...); err != nil {
		return User{}, err
	}
	var u User
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		// Of two who follow one link at once the second waits here and finds it used.
		if err := d.stillInvited(ctx, hashToken(token)); err != nil {
			return err
		}
		taken, err := d.db.Exec(ctx, `UPDATE invitations SET accepted_at = $2, email_index = NULL, sealed = NULL, group_invitation = NULL
			WHERE token_hash = $1 AND accepted_at IS NULL AND expires_at > $2`, hashToken(token), db.At(d.now()))
		if err != nil {
			return err
		}
		if taken == 0 {
			return ErrLink
		}
		if u, err = d.Create(ctx, n); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "invitation.accept", Actor: u.ID, UserID: u.ID, Detail: map[string]string{"invitation": inv.ID}})
		return nil
	})
	if err != nil {
		return User{}, fmt.Errorf("accept invitation: %w", err)
	}
	return d.User(ctx, u.ID) // with its times as they are kept: StartSession compares them
}

// stillInvited reports ErrLink for an invitation that was brought about by an admin of a group who is none any more, or whose group
// only operators add people to by now.
func (d *Directory) stillInvited(ctx context.Context, hash []byte) error {
	var inviter, group string
	err := d.db.QueryRow(ctx, `SELECT g.user_id, g.group_id FROM invitations i JOIN group_invitations g ON g.id = i.group_invitation WHERE i.token_hash = $1`,
		hash).Scan(&inviter, &group)
	if errors.Is(err, db.ErrNotFound) { // an operator's
		return nil
	}
	if err == nil {
		err = d.asAdmin(ctx, inviter, group)
	}
	if err == nil {
		err = d.mayGrow(ctx, group)
	}
	if errors.Is(err, db.ErrNotFound) || errors.Is(err, ErrGuarded) {
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	return err
}

const (
	signUpColumns = `id, sealed, role, told, created_at, expires_at, accepted_at,
		COALESCE((SELECT g.name FROM group_invitations gi JOIN groups g ON g.id = gi.group_id WHERE gi.id = invitations.group_invitation), '')`
	signUpSelect = `SELECT ` + signUpColumns + ` FROM invitations`
)

func (d *Directory) scanSignUp(row db.Scanner) (inv SignUpInvitation, accepted bool, err error) {
	var sealed []byte
	var created, expires, acceptedAt db.Time
	if err := row.Scan(&inv.ID, &sealed, &inv.Role, &inv.Sent, &created, &expires, &acceptedAt, &inv.Group); err != nil {
		return SignUpInvitation{}, false, err
	}
	inv.CreatedAt, inv.ExpiresAt = created.Time, expires.Time
	if !acceptedAt.IsZero() {
		return inv, true, nil
	}
	plain, err := d.seal.Open(sealed, signUpPurpose(inv.ID))
	var secret signUpSecret
	if err == nil {
		err = json.Unmarshal(plain, &secret)
	}
	if err != nil {
		return SignUpInvitation{}, false, fmt.Errorf("invitation %s: %w", inv.ID, err)
	}
	inv.Email, inv.Language = secret.Email, secret.Language
	return inv, false, nil
}
