package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// MaxGroupDepth bounds how many groups may stand in one another.
const MaxGroupDepth = 8

const (
	maxGroupName   = 100
	maxDescription = 500
	maxGroups      = 200 // one page of Groups, Roles, APIs and Members
)

var (
	// ErrNameTaken says that another group, role, API or attribute has the name.
	ErrNameTaken = errors.New("name taken")
	// ErrGroupCycle says that a group would stand in itself.
	ErrGroupCycle = errors.New("a group cannot be inside itself")
	// ErrGroupDepth says that more than MaxGroupDepth groups would stand in one another.
	ErrGroupDepth = errors.New("groups are nested too deep")
)

// Group is a set of persons, who share what is given to it. Everything refers to its id: a name may change, and one that is used
// again after its group is gone gives nothing back.
type Group struct {
	ID          string    `json:"id"` // UUIDv7
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Member is a person in a group.
type Member struct {
	User     User
	Admin    bool // may invite people and see members out
	JoinedAt time.Time
}

// checkName holds for names of groups and roles: shown to people, found without regard to case, and never to be taken for an id.
func checkName(name string) (normal, key string) {
	normal, key = checkText(name, maxGroupName, false)
	switch _, err := uuid.Parse(normal); {
	case key != "":
		return "", key
	case normal == "":
		return "", KeyRequired
	case err == nil, strings.ContainsFunc(normal, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", KeyCharacters
	}
	return normal, ""
}

// nameKey is what a name is found by.
func nameKey(name string) string { return strings.ToLower(norm.NFKC.String(name)) }

// describedName checks a name and the words beside it.
func describedName(name, description string) (string, string, error) {
	wrong := FieldErrors{}
	name, key := checkName(name)
	if key != "" {
		wrong["name"] = key
	}
	description, key = checkText(description, maxDescription, false)
	if key != "" {
		wrong["description"] = key
	}
	return name, description, wrong.err()
}

// alter runs f in a transaction, with one audit row of it, and says in an error what was tried.
func (d *Directory) alter(ctx context.Context, what string, e audit.Event, f func(ctx context.Context) error) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		if err := f(ctx); err != nil {
			return err
		}
		d.audit.Record(ctx, e)
		return nil
	})
	if errors.Is(err, db.ErrConflict) {
		err = ErrNameTaken
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// one turns "no row changed" into ErrNotFound.
func one(changed int64, err error) error {
	if err == nil && changed == 0 {
		return ErrNotFound
	}
	return err
}

// CreateGroup adds an empty group. actor, here and below, is who does it: a person's id, or "" where the audit log knows.
func (d *Directory) CreateGroup(ctx context.Context, actor, name, description string) (Group, error) {
	name, description, err := describedName(name, description)
	if err != nil {
		return Group{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Group{}, err
	}
	now := d.now().UTC().Truncate(time.Microsecond)
	g := Group{ID: id.String(), Name: name, Description: description, CreatedAt: now, UpdatedAt: now}
	return g, d.alter(ctx, "create group", audit.Event{Action: "group.create", Actor: actor, Detail: map[string]string{"group_id": g.ID}}, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO groups (id, name, name_key, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
			g.ID, g.Name, nameKey(g.Name), g.Description, db.At(now))
		return err
	})
}

// UpdateGroup gives a group another name and description. Members, roles and limits of apps stay with it.
func (d *Directory) UpdateGroup(ctx context.Context, actor string, g Group) error {
	name, description, err := describedName(g.Name, g.Description)
	if err != nil {
		return err
	}
	return d.alter(ctx, "update group", audit.Event{Action: "group.update", Actor: actor, Detail: map[string]string{"group_id": g.ID}}, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `UPDATE groups SET name = $2, name_key = $3, description = $4, updated_at = $5 WHERE id = $1`,
			g.ID, name, nameKey(name), description, db.At(d.now())))
	})
}

// DeleteGroup removes a group with its memberships, roles and invitations. An app that only the group could use is then
// closed to all, not open to all.
func (d *Directory) DeleteGroup(ctx context.Context, actor, id string) error {
	return d.alter(ctx, "delete group", audit.Event{Action: "group.delete", Actor: actor, Detail: map[string]string{"group_id": id}}, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM groups WHERE id = $1`, id))
	})
}

const groupColumns = `g.id, g.name, g.description, g.created_at, g.updated_at`

func scanGroup(row db.Scanner, more ...any) (g Group, err error) {
	var created, updated db.Time
	err = row.Scan(append([]any{&g.ID, &g.Name, &g.Description, &created, &updated}, more...)...)
	g.CreatedAt, g.UpdatedAt = created.Time, updated.Time
	return g, err
}

// Group returns a group by its id, or ErrNotFound.
func (d *Directory) Group(ctx context.Context, id string) (Group, error) {
	g, err := scanGroup(d.db.QueryRow(ctx, `SELECT `+groupColumns+` FROM groups g WHERE g.id = $1`, id))
	if err != nil {
		return Group{}, fmt.Errorf("read group: %w", err)
	}
	return g, nil
}

// GroupNamed returns the group that has a name now, in any case, or ErrNotFound. It is for operators' commands; what is kept
// is the id.
func (d *Directory) GroupNamed(ctx context.Context, name string) (Group, error) {
	g, err := scanGroup(d.db.QueryRow(ctx, `SELECT `+groupColumns+` FROM groups g WHERE g.name_key = $1`, nameKey(strings.TrimSpace(name))))
	if err != nil {
		return Group{}, fmt.Errorf("read group: %w", err)
	}
	return g, nil
}

// Groups lists groups by name, from the one after the name "after"; at most 200 at once.
func (d *Directory) Groups(ctx context.Context, after string, limit int) ([]Group, error) {
	return d.groups(ctx, `SELECT `+groupColumns+` FROM groups g WHERE g.name_key > $1 ORDER BY g.name_key LIMIT $2`, nameKey(after), pageSize(limit))
}

// Subgroups lists the groups that stand directly in a group.
func (d *Directory) Subgroups(ctx context.Context, id string) ([]Group, error) {
	return d.groups(ctx, `SELECT `+groupColumns+` FROM groups g JOIN group_nesting n ON n.child_id = g.id WHERE n.parent_id = $1 ORDER BY g.name_key`, id)
}

// Supergroups lists the groups in which a group directly stands.
func (d *Directory) Supergroups(ctx context.Context, id string) ([]Group, error) {
	return d.groups(ctx, `SELECT `+groupColumns+` FROM groups g JOIN group_nesting n ON n.parent_id = g.id WHERE n.child_id = $1 ORDER BY g.name_key`, id)
}

func (d *Directory) groups(ctx context.Context, query string, args ...any) ([]Group, error) {
	list := []Group{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		g, err := scanGroup(row)
		list = append(list, g)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	return list, nil
}

func pageSize(limit int) int {
	if limit <= 0 || limit > maxGroups {
		return maxGroups
	}
	return limit
}

// Nest puts one group into another: whoever is in child is in parent too. Changes of the nesting wait for each other, so that
// two that are harmless alone cannot close a circle together.
func (d *Directory) Nest(ctx context.Context, actor, parentID, childID string) error {
	e := audit.Event{Action: "group.nest", Actor: actor, Detail: map[string]string{"group_id": childID, "parent_id": parentID}}
	return d.alter(ctx, "nest group", e, func(ctx context.Context) error {
		if err := d.db.Changed(ctx, "group-nesting"); err != nil { // the row is locked until the end
			return err
		}
		// One level more than is allowed is read, so that the sum tells "too deep" from "just right".
		above, err := d.nesting(ctx, `SELECT id, depth FROM (WITH RECURSIVE line (id, depth) AS (SELECT CAST($1 AS TEXT), 1
			UNION SELECT n.parent_id, line.depth + 1 FROM group_nesting n JOIN line ON n.child_id = line.id WHERE line.depth <= $2)
			SELECT id, depth FROM line) AS above`, parentID)
		if err != nil {
			return err
		}
		below, err := d.nesting(ctx, `SELECT id, depth FROM (WITH RECURSIVE line (id, depth) AS (SELECT CAST($1 AS TEXT), 1
			UNION SELECT n.child_id, line.depth + 1 FROM group_nesting n JOIN line ON n.parent_id = line.id WHERE line.depth <= $2)
			SELECT id, depth FROM line) AS below`, childID)
		if err != nil {
			return err
		}
		if above[childID] > 0 {
			return ErrGroupCycle
		}
		if deepest(above)+deepest(below) > MaxGroupDepth {
			return ErrGroupDepth
		}
		_, err = d.db.Exec(ctx, `INSERT INTO group_nesting (parent_id, child_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, parentID, childID)
		return err
	})
}

// nesting gives the greatest distance, counted from 1, of each group on the lines from one on.
func (d *Directory) nesting(ctx context.Context, query, from string) (map[string]int, error) {
	far := map[string]int{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var id string
		var depth int
		err := row.Scan(&id, &depth)
		far[id] = max(far[id], depth)
		return err
	}, query, from, MaxGroupDepth)
	return far, err
}

func deepest(far map[string]int) (depth int) {
	for _, n := range far {
		depth = max(depth, n)
	}
	return depth
}

// Unnest takes a group out of another.
func (d *Directory) Unnest(ctx context.Context, actor, parentID, childID string) error {
	e := audit.Event{Action: "group.unnest", Actor: actor, Detail: map[string]string{"group_id": childID, "parent_id": parentID}}
	return d.alter(ctx, "take group out", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM group_nesting WHERE parent_id = $1 AND child_id = $2`, parentID, childID))
	})
}

// AddMember puts a person into a group, or makes a member its admin or no more than a member. It is for operators; what an admin
// of the group may do stands in groupadmin.go.
func (d *Directory) AddMember(ctx context.Context, actor, groupID, userID string, admin bool) error {
	e := audit.Event{Action: "group.join", Actor: actor, UserID: userID, Detail: map[string]string{"group_id": groupID, "admin": fmt.Sprint(admin)}}
	return d.alter(ctx, "add member", e, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		_, err := d.db.Exec(ctx, `INSERT INTO group_members (group_id, user_id, admin, joined_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (group_id, user_id) DO UPDATE SET admin = excluded.admin`, groupID, userID, admin, db.At(d.now()))
		return err
	})
}

// RemoveMember takes a person out of a group; the invitations they sent for it go with them.
func (d *Directory) RemoveMember(ctx context.Context, actor, groupID, userID string) error {
	e := audit.Event{Action: "group.leave", Actor: actor, UserID: userID, Detail: map[string]string{"group_id": groupID}}
	return d.alter(ctx, "remove member", e, func(ctx context.Context) error {
		if err := one(d.db.Exec(ctx, `DELETE FROM group_members WHERE group_id = $1 AND user_id = $2`, groupID, userID)); err != nil {
			return err
		}
		_, err := d.db.Exec(ctx, `DELETE FROM group_invitations WHERE group_id = $1 AND user_id = $2`, groupID, userID)
		return err
	})
}

// Members lists who is directly in a group, by id, from the one after "after"; at most 200 at once.
func (d *Directory) Members(ctx context.Context, groupID, after string, limit int) ([]Member, error) {
	const page = ` WHERE m.group_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3`
	list := []Member{}
	place := map[string]int{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var m Member
		var joined db.Time
		err := row.Scan(&m.User.ID, &m.Admin, &joined)
		m.JoinedAt = joined.Time
		place[m.User.ID] = len(list)
		list = append(list, m)
		return err
	}, `SELECT m.user_id, m.admin, m.joined_at FROM group_members m`+page, groupID, after, pageSize(limit))
	if err == nil {
		err = d.db.Query(ctx, func(row db.Scanner) error {
			r, err := scanUser(row)
			if err != nil {
				return err
			}
			if i, ok := place[r.user.ID]; ok { // else they joined in between
				list[i].User, err = d.openUser(r)
			}
			return err
		}, userSelect+` JOIN group_members m ON m.user_id = u.id`+page, groupID, after, pageSize(limit))
	}
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return slices.DeleteFunc(list, func(m Member) bool { return m.User.Email == "" }), nil // they left in between
}

// Belonging is a group that a person is in.
type Belonging struct {
	Group    Group
	Direct   bool // else by a group in it
	Admin    bool
	JoinedAt time.Time // zero unless direct
}

// GroupsOf lists the groups that a person is in, directly or by nesting, by name.
func (d *Directory) GroupsOf(ctx context.Context, userID string) ([]Belonging, error) {
	list := []Belonging{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var b Belonging
		var joined db.Time
		var err error
		b.Group, err = scanGroup(row, &b.Direct, &b.Admin, &joined)
		b.JoinedAt = joined.Time
		list = append(list, b)
		return err
	}, `SELECT `+groupColumns+`, m.user_id IS NOT NULL, COALESCE(m.admin, FALSE), m.joined_at FROM (`+groupsOfPerson+` SELECT id FROM mine) AS mine
		JOIN groups g ON g.id = mine.id LEFT JOIN group_members m ON m.group_id = g.id AND m.user_id = $1 ORDER BY g.name_key`, userID)
	if err != nil {
		return nil, fmt.Errorf("list groups of person: %w", err)
	}
	return list, nil
}

// groupsOfPerson walks up from the groups that the person $1 is in. UNION drops what was seen, so that it would end even in a
// circle. It stands in brackets, since db picks the reading connections by the first word of a statement.
const groupsOfPerson = `WITH RECURSIVE mine (id) AS (SELECT group_id FROM group_members WHERE user_id = $1
	UNION SELECT n.parent_id FROM group_nesting n JOIN mine ON n.child_id = mine.id)`

// InGroup reports, in one statement, whether a person is in one of the groups, directly or by nesting. A group that is gone
// has nobody in it.
func (d *Directory) InGroup(ctx context.Context, userID string, groupIDs []string) (bool, error) {
	in := false
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		for _, wanted := range groupIDs {
			in = in || id == wanted
		}
		return err
	}, `SELECT id FROM (`+groupsOfPerson+` SELECT mine.id FROM mine JOIN groups g ON g.id = mine.id) AS mine`, userID)
	if err != nil {
		return false, fmt.Errorf("read groups of person: %w", err)
	}
	return in, nil
}
