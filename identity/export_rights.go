package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// HeldRights is what the directory holds about a person's place among others: rows of group_members, group_invitations and
// user_roles, and what follows from them.
type HeldRights struct {
	Groups          []HeldGroup      `json:"groups"`
	InvitedTo       []HeldInvitation `json:"invited_to"`
	InvitationsSent []HeldInvitation `json:"invitations_sent"`
	Roles           []GivenRole      `json:"roles"`

	Attributes []HeldAttribute `json:"-"` // rows of user_attributes; a file of their own
}

// HeldGroup is a group that a person is in.
type HeldGroup struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Direct   bool      `json:"direct"` // else because one of their groups stands in it
	Admin    bool      `json:"admin"`
	JoinedAt time.Time `json:"joined_at,omitzero"`
}

// HeldInvitation is a row of group_invitations.
type HeldInvitation struct {
	GroupID   string    `json:"group_id"`
	GroupName string    `json:"group_name"`
	Email     string    `json:"email,omitempty"` // of whom the person invited
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// GivenRole is a role that was given to a person itself, or that they have by a group.
type GivenRole struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Direct  bool      `json:"direct"` // else by a group
	GivenAt time.Time `json:"given_at,omitzero"`
}

func (d *Directory) heldRights(ctx context.Context, userID string) (h HeldRights, err error) {
	h = HeldRights{Groups: []HeldGroup{}, InvitedTo: []HeldInvitation{}, InvitationsSent: []HeldInvitation{}, Roles: []GivenRole{}}
	in, err := d.GroupsOf(ctx, userID)
	if err != nil {
		return h, err
	}
	for _, b := range in {
		h.Groups = append(h.Groups, HeldGroup{b.Group.ID, b.Group.Name, b.Direct, b.Admin, b.JoinedAt})
		if !b.Admin {
			continue
		}
		sent, err := d.Invitations(ctx, b.Group.ID)
		if err != nil {
			return h, err
		}
		for _, i := range sent {
			if i.InviterID == userID {
				h.InvitationsSent = append(h.InvitationsSent, HeldInvitation{b.Group.ID, b.Group.Name, i.Email, i.CreatedAt, i.ExpiresAt})
			}
		}
	}
	invited, err := d.InvitedTo(ctx, userID)
	if err != nil {
		return h, err
	}
	for _, i := range invited {
		h.InvitedTo = append(h.InvitedTo, HeldInvitation{i.Group.ID, i.Group.Name, "", i.CreatedAt, i.ExpiresAt})
	}
	if h.Attributes, err = d.AttributesOf(ctx, userID); err != nil {
		return h, err
	}
	if h.Roles, err = d.RolesOf(ctx, userID); err != nil {
		return h, err
	}
	return h, nil
}

// RolesOf lists the roles that a person has, by name, and whether they were given to the person or to a group.
func (d *Directory) RolesOf(ctx context.Context, userID string) ([]GivenRole, error) {
	list := []GivenRole{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var r GivenRole
		var given db.Time
		err := row.Scan(&r.ID, &r.Name, &r.Direct, &given)
		r.GivenAt = given.Time
		list = append(list, r)
		return err
	}, `SELECT r.id, r.name, ur.user_id IS NOT NULL, ur.given_at FROM (`+groupsOfPerson+`
		SELECT role_id AS id FROM user_roles WHERE user_id = $1 UNION SELECT gr.role_id FROM group_roles gr JOIN mine ON mine.id = gr.group_id) AS held
		JOIN roles r ON r.id = held.id LEFT JOIN user_roles ur ON ur.role_id = r.id AND ur.user_id = $1 ORDER BY r.name_key`, userID)
	if err != nil {
		return nil, fmt.Errorf("list roles of person: %w", err)
	}
	return list, nil
}
