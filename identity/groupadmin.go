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

// What an admin of a group may do, who is no operator: see who is directly in it, invite people, see members out.
//
// None of it can be turned into more rights (privilege escalation):
//
//   - An admin is always a member. Whatever membership gives, the admin has already; nobody hands on what they lack.
//   - A guarded role is the exception the other way: who holds it by a group cannot pass it on. As long as the group, or one
//     that it stands in, carries one, nobody can be invited.
//   - It ends at the group itself: the ones in it and around it, its name (apps may go by it), its place in the nesting, its
//     roles and its other admins are the operator's.
//   - Who is invited joins by their own will, with a proven address, and only as long as the inviter is still an admin.

// ErrGuarded says that a group carries a guarded role, so that only an operator adds people.
var ErrGuarded = errors.New("the group carries a guarded role")

const (
	invitationLife = 14 * 24 * time.Hour
	invitesPerHour = 30 // of one admin
)

// Invitation asks whoever proves an address to join a group.
type Invitation struct {
	ID        string
	Group     Group
	InviterID string
	Email     string // for admins of the group only
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Administered returns a group that a person is an admin of, and whether it is closed to new people by a guarded role. Any other
// group is ErrNotFound, as one that does not exist (insecure direct object reference).
func (d *Directory) Administered(ctx context.Context, adminID, groupID string) (g Group, guarded bool, err error) {
	g, err = scanGroup(d.db.QueryRow(ctx, `SELECT `+groupColumns+`, `+guardedGroup+` FROM groups g
		JOIN group_members m ON m.group_id = g.id WHERE g.id = $1 AND m.user_id = $2 AND m.admin`, groupID, adminID), &guarded)
	if err != nil {
		return Group{}, false, fmt.Errorf("read group as its admin: %w", err)
	}
	return g, guarded, nil
}

// guardedGroup reports whether the group $1, or one that it stands in, carries a guarded role.
const guardedGroup = `EXISTS (WITH RECURSIVE above (id) AS (SELECT CAST($1 AS TEXT) UNION SELECT n.parent_id FROM group_nesting n JOIN above ON n.child_id = above.id)
	SELECT 1 FROM above JOIN group_roles gr ON gr.group_id = above.id JOIN roles r ON r.id = gr.role_id WHERE r.guarded)`

// asAdmin holds an admin's membership until the transaction ends, or reports ErrNotFound: whoever takes the office away
// waits, or was first.
func (d *Directory) asAdmin(ctx context.Context, adminID, groupID string) error {
	return one(d.db.Exec(ctx, `UPDATE group_members SET admin = admin WHERE group_id = $2 AND user_id = $1 AND admin
		AND EXISTS (SELECT 1 FROM users u WHERE u.id = group_members.user_id AND u.status = 'active')`, adminID, groupID))
}

// mayGrow reports ErrGuarded for a group that only operators add people to.
func (d *Directory) mayGrow(ctx context.Context, groupID string) error {
	var guarded bool
	if err := d.db.QueryRow(ctx, `SELECT `+guardedGroup, groupID).Scan(&guarded); err != nil {
		return err
	}
	if guarded {
		return ErrGuarded
	}
	return nil
}

// Invite asks the holder of an address to join a group, at the word of an admin of it. Whether there is an account with the
// address is not told (account enumeration): the answer and what is kept are the same. A second invitation takes the place of
// the first.
func (d *Directory) Invite(ctx context.Context, adminID, groupID, email string) (Invitation, error) {
	normal, ok := NormalEmail(email)
	if !ok {
		return Invitation{}, FieldErrors{"email": KeyEmailInvalid}
	}
	wait, err := d.cache.Allow(ctx, "group-invite:"+adminID, invitesPerHour, time.Hour)
	if err != nil {
		return Invitation{}, fmt.Errorf("invite: %w", err)
	}
	if wait > 0 {
		return Invitation{}, &LimitError{RetryAfter: wait}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Invitation{}, err
	}
	now := d.now()
	in := Invitation{ID: id.String(), InviterID: adminID, Email: normal, CreatedAt: now, ExpiresAt: now.Add(invitationLife)}
	e := audit.Event{Action: "group.invite", Actor: adminID, UserID: adminID, Detail: map[string]string{"group_id": groupID}}
	err = d.alter(ctx, "invite to group", e, func(ctx context.Context) error {
		wrapped, err := d.lock(ctx, adminID)
		if err != nil {
			return err
		}
		if err := d.asAdmin(ctx, adminID, groupID); err != nil {
			return err
		}
		if in.Group, err = d.Group(ctx, groupID); err != nil {
			return err
		}
		if err := d.mayGrow(ctx, groupID); err != nil {
			return err
		}
		index := d.emailIndex(normal)
		var member bool // the admin sees the members' addresses anyway
		if err := d.db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM group_members m JOIN users u ON u.id = m.user_id WHERE m.group_id = $1 AND u.email_index = $2)`,
			groupID, index).Scan(&member); err != nil {
			return err
		}
		if member {
			return FieldErrors{"email": KeyMember}
		}
		own, err := d.ownSealer(adminID, wrapped)
		if err != nil {
			return err
		}
		_, err = d.db.Exec(ctx, `INSERT INTO group_invitations (id, group_id, user_id, email_index, email, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (group_id, email_index) DO UPDATE SET id = excluded.id, user_id = excluded.user_id, email = excluded.email,
				created_at = excluded.created_at, expires_at = excluded.expires_at`,
			in.ID, groupID, adminID, index, own.Seal([]byte(normal), invitationPurpose(in.ID)), db.At(now), db.At(in.ExpiresAt))
		return err
	})
	return in, err
}

func invitationPurpose(id string) string { return "group-invitation:" + id }

const invitationColumns = `i.id, i.user_id, i.created_at, i.expires_at, ` + groupColumns

func scanInvitation(row db.Scanner, more ...any) (in Invitation, err error) {
	var created, expires, groupCreated, groupUpdated db.Time
	g := &in.Group
	err = row.Scan(append([]any{&in.ID, &in.InviterID, &created, &expires, &g.ID, &g.Name, &g.Description, &groupCreated, &groupUpdated}, more...)...)
	in.CreatedAt, in.ExpiresAt, g.CreatedAt, g.UpdatedAt = created.Time, expires.Time, groupCreated.Time, groupUpdated.Time
	return in, err
}

// Invitations lists who has been asked to join a group and has not answered, the newest first.
func (d *Directory) Invitations(ctx context.Context, groupID string) ([]Invitation, error) {
	list := []Invitation{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var wrapped, sealed []byte
		in, err := scanInvitation(row, &sealed, &wrapped)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(in.InviterID, wrapped)
		if err != nil {
			return err
		}
		email, err := own.Open(sealed, invitationPurpose(in.ID))
		in.Email = string(email)
		list = append(list, in)
		return err
	}, `SELECT `+invitationColumns+`, i.email, k.wrapped FROM group_invitations i JOIN groups g ON g.id = i.group_id JOIN data_keys k ON k.user_id = i.user_id
		WHERE i.group_id = $1 AND i.expires_at > $2 ORDER BY i.id DESC LIMIT $3`, groupID, db.At(d.now()), maxGroups)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return list, nil
}

// Uninvite takes an invitation back, at the word of an admin of its group.
func (d *Directory) Uninvite(ctx context.Context, adminID, groupID, invitationID string) error {
	e := audit.Event{Action: "group.uninvite", Actor: adminID, UserID: adminID, Detail: map[string]string{"group_id": groupID}}
	return d.alter(ctx, "take invitation back", e, func(ctx context.Context) error {
		if err := d.asAdmin(ctx, adminID, groupID); err != nil {
			return err
		}
		return one(d.db.Exec(ctx, `DELETE FROM group_invitations WHERE id = $1 AND group_id = $2`, invitationID, groupID))
	})
}

// SeeOut takes a member out of a group, at the word of an admin of it. Admins, oneself among them, leave by an operator's word.
func (d *Directory) SeeOut(ctx context.Context, adminID, groupID, userID string) error {
	e := audit.Event{Action: "group.leave", Actor: adminID, UserID: userID, Detail: map[string]string{"group_id": groupID}}
	return d.alter(ctx, "see member out", e, func(ctx context.Context) error {
		if err := d.asAdmin(ctx, adminID, groupID); err != nil {
			return err
		}
		return one(d.db.Exec(ctx, `DELETE FROM group_members WHERE group_id = $1 AND user_id = $2 AND NOT admin`, groupID, userID))
	})
}

// InvitedTo lists the groups that a person is asked to join: those sent to the address that they have proven.
func (d *Directory) InvitedTo(ctx context.Context, userID string) ([]Invitation, error) {
	list := []Invitation{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		in, err := scanInvitation(row)
		list = append(list, in)
		return err
	}, `SELECT `+invitationColumns+` FROM users u JOIN group_invitations i ON i.email_index = u.email_index JOIN groups g ON g.id = i.group_id
		WHERE u.id = $1 AND u.email_verified AND i.expires_at > $2 ORDER BY i.id DESC LIMIT $3`, userID, db.At(d.now()), maxGroups)
	if err != nil {
		return nil, fmt.Errorf("list invitations of person: %w", err)
	}
	return list, nil
}

// Join accepts an invitation. Everything is looked at anew: the address, whether the inviter is still an admin, and what the
// group carries by now.
func (d *Directory) Join(ctx context.Context, userID, invitationID string) error {
	e := audit.Event{Action: "group.join", Actor: userID, UserID: userID, Detail: map[string]string{"admin": "false"}}
	return d.alter(ctx, "join group", e, func(ctx context.Context) error {
		groupID, inviter, err := d.takeInvitation(ctx, userID, invitationID)
		if err != nil {
			return err
		}
		e.Detail["group_id"] = groupID // the row is written behind this
		if err := d.asAdmin(ctx, inviter, groupID); err != nil {
			return err
		}
		if err := d.mayGrow(ctx, groupID); err != nil {
			return err
		}
		_, err = d.db.Exec(ctx, `INSERT INTO group_members (group_id, user_id, admin, joined_at) VALUES ($1, $2, FALSE, $3) ON CONFLICT DO NOTHING`,
			groupID, userID, db.At(d.now()))
		return err
	})
}

// Decline turns an invitation down.
func (d *Directory) Decline(ctx context.Context, userID, invitationID string) error {
	e := audit.Event{Action: "group.decline", Actor: userID, UserID: userID, Detail: map[string]string{}}
	return d.alter(ctx, "decline invitation", e, func(ctx context.Context) error {
		groupID, _, err := d.takeInvitation(ctx, userID, invitationID)
		e.Detail["group_id"] = groupID
		return err
	})
}

// takeInvitation uses an invitation up, if it is one to the proven address of an active person.
func (d *Directory) takeInvitation(ctx context.Context, userID, invitationID string) (groupID, inviter string, err error) {
	if _, err := d.lock(ctx, userID); err != nil {
		return "", "", err
	}
	err = d.db.QueryRow(ctx, `DELETE FROM group_invitations WHERE id = $2 AND expires_at > $3
		AND email_index = (SELECT email_index FROM users WHERE id = $1 AND email_verified AND status = 'active') RETURNING group_id, user_id`,
		userID, invitationID, db.At(d.now())).Scan(&groupID, &inviter)
	return groupID, inviter, err
}

// forgetInvitations deletes the invitations that were sent to a person who is erased, and those that are over.
func (d *Directory) forgetInvitations(ctx context.Context, userID string) error {
	_, err := d.db.Exec(ctx, `DELETE FROM group_invitations WHERE expires_at <= $2 OR email_index = (SELECT email_index FROM users WHERE id = $1)`, userID, db.At(d.now()))
	return err
}
