package identity

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// API is something protected that roles open: a service that takes access tokens, or an app that looks at permissions.
type API struct {
	ID          string       `json:"id"`         // UUIDv7
	Identifier  string       `json:"identifier"` // absolute URI or client id: the audience of its access tokens
	Name        string       `json:"name"`
	Permissions []Permission `json:"permissions"`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
	Resource
}

// Permission is one thing that may be done at an API.
type Permission struct {
	ID          string `json:"id"`
	API         string `json:"api"`  // identifier
	Name        string `json:"name"` // such as orders:read
	Description string `json:"description,omitempty"`
}

// Role is a set of permissions, given to persons and to groups.
type Role struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Description string       `json:"description,omitempty"`
	Guarded     bool         `json:"guarded"` // given by operators only: admins of a group that carries it cannot add people
	Permissions []Permission `json:"permissions"`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
}

const maxIdentifier = 2048

// permissionName is what RFC 6749 §3.3 allows in a scope, without what separates identifier and name in a claim.
var permissionName = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,100}$`)

// clientID is what oauth takes for the id of a client.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

// checkIdentifier wants the id of a client or an absolute URI without fragment (RFC 8707 §2).
func checkIdentifier(s string) bool {
	if clientID.MatchString(s) {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && (u.Host != "" || u.Opaque != "") && !strings.Contains(s, "#") && len(s) <= maxIdentifier &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// CreateAPI registers an API without permissions.
func (d *Directory) CreateAPI(ctx context.Context, actor, identifier, name string) (API, error) {
	return d.CreateResource(ctx, actor, API{Identifier: identifier, Name: name})
}

// CreateResource registers an API with what it is as a resource.
func (d *Directory) CreateResource(ctx context.Context, actor string, a API) (API, error) {
	wrong := FieldErrors{}
	name, key := checkName(a.Name)
	if key != "" {
		wrong["name"] = key
	}
	if !checkIdentifier(a.Identifier) {
		wrong["identifier"] = KeyURLInvalid
	}
	if err := wrong.err(); err != nil {
		return API{}, err
	}
	if err := a.Resource.check(); err != nil {
		return API{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return API{}, err
	}
	now := d.now().UTC().Truncate(time.Microsecond)
	a.ID, a.Name, a.Permissions, a.CreatedAt, a.UpdatedAt = id.String(), name, []Permission{}, now, now
	return a, d.alter(ctx, "create API", audit.Event{Action: "api.create", Actor: actor, Detail: map[string]string{"api_id": a.ID}}, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO apis (id, identifier, name, created_at, updated_at, scopes, token_seconds, self_registered, dpop, client_id, format, certificate)
			VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11)`, a.ID, a.Identifier, a.Name, db.At(now), db.JSON(&a.Scopes), int64(a.TokenTTL/time.Second), a.Open, a.DPoP, a.ClientID,
			a.Format, a.Certificate)
		return err
	})
}

// DeleteAPI removes an API with its permissions, which no role has from then on.
func (d *Directory) DeleteAPI(ctx context.Context, actor, id string) error {
	return d.alter(ctx, "delete API", audit.Event{Action: "api.delete", Actor: actor, Detail: map[string]string{"api_id": id}}, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM apis WHERE id = $1`, id))
	})
}

const apiColumns = `id, identifier, name, created_at, updated_at, scopes, token_seconds, self_registered, dpop, client_id, format, certificate`

func scanAPI(row db.Scanner) (a API, err error) {
	var created, updated db.Time
	var seconds int64
	err = row.Scan(&a.ID, &a.Identifier, &a.Name, &created, &updated, db.JSON(&a.Scopes), &seconds, &a.Open, &a.DPoP, &a.ClientID, &a.Format, &a.Certificate)
	a.CreatedAt, a.UpdatedAt, a.TokenTTL, a.Permissions = created.Time, updated.Time, time.Duration(seconds)*time.Second, []Permission{}
	return a, err
}

// API returns the API with an identifier, and its permissions, or ErrNotFound.
func (d *Directory) API(ctx context.Context, identifier string) (API, error) {
	a, err := scanAPI(d.db.QueryRow(ctx, `SELECT `+apiColumns+` FROM apis WHERE identifier = $1`, identifier))
	if err != nil {
		return API{}, fmt.Errorf("read API: %w", err)
	}
	a.Permissions, err = d.permissions(ctx, `SELECT p.id, a.identifier, p.name, p.description FROM api_permissions p JOIN apis a ON a.id = p.api_id
		WHERE p.api_id = $1 ORDER BY p.name`, a.ID)
	return a, err
}

// APIs lists APIs by identifier, without their permissions, from the one after "after"; at most 200 at once.
func (d *Directory) APIs(ctx context.Context, after string, limit int) ([]API, error) {
	list := []API{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		a, err := scanAPI(row)
		list = append(list, a)
		return err
	}, `SELECT `+apiColumns+` FROM apis WHERE identifier > $1 ORDER BY identifier LIMIT $2`, after, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list APIs: %w", err)
	}
	return list, nil
}

// AddPermission adds a permission to an API, or gives one other words.
func (d *Directory) AddPermission(ctx context.Context, actor, apiID, name, description string) error {
	wrong := FieldErrors{}
	if !permissionName.MatchString(name) {
		wrong["permission"] = KeyCharacters
	}
	description, key := checkText(description, maxDescription, false)
	if key != "" {
		wrong["description"] = key
	}
	if err := wrong.err(); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	e := audit.Event{Action: "api.permission_add", Actor: actor, Detail: map[string]string{"api_id": apiID, "permission": name}}
	return d.alter(ctx, "add permission", e, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO api_permissions (id, api_id, name, description) VALUES ($1, $2, $3, $4)
			ON CONFLICT (api_id, name) DO UPDATE SET description = excluded.description`, id.String(), apiID, name, description)
		return err
	})
}

// RemovePermission removes a permission from an API and from every role. One of the same name that is added later is another one.
func (d *Directory) RemovePermission(ctx context.Context, actor, apiID, name string) error {
	e := audit.Event{Action: "api.permission_remove", Actor: actor, Detail: map[string]string{"api_id": apiID, "permission": name}}
	return d.alter(ctx, "remove permission", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM api_permissions WHERE api_id = $1 AND name = $2`, apiID, name))
	})
}

func (d *Directory) permissions(ctx context.Context, query string, args ...any) ([]Permission, error) {
	list := []Permission{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var p Permission
		err := row.Scan(&p.ID, &p.API, &p.Name, &p.Description)
		list = append(list, p)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list permissions: %w", err)
	}
	return list, nil
}

// CreateRole adds a role without permissions, which nobody has.
func (d *Directory) CreateRole(ctx context.Context, actor string, r Role) (Role, error) {
	var err error
	if r.Name, r.Description, err = describedName(r.Name, r.Description); err != nil {
		return Role{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Role{}, err
	}
	now := d.now().UTC().Truncate(time.Microsecond)
	r.ID, r.Permissions, r.CreatedAt, r.UpdatedAt = id.String(), []Permission{}, now, now
	return r, d.alter(ctx, "create role", audit.Event{Action: "role.create", Actor: actor, Detail: map[string]string{"role_id": r.ID}}, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO roles (id, name, name_key, description, guarded, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
			r.ID, r.Name, nameKey(r.Name), r.Description, r.Guarded, db.At(now))
		return err
	})
}

// UpdateRole changes name, description and guard of a role; its permissions and who has it stay.
func (d *Directory) UpdateRole(ctx context.Context, actor string, r Role) error {
	name, description, err := describedName(r.Name, r.Description)
	if err != nil {
		return err
	}
	e := audit.Event{Action: "role.update", Actor: actor, Detail: map[string]string{"role_id": r.ID, "guarded": fmt.Sprint(r.Guarded)}}
	return d.alter(ctx, "update role", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `UPDATE roles SET name = $2, name_key = $3, description = $4, guarded = $5, updated_at = $6 WHERE id = $1`,
			r.ID, name, nameKey(name), description, r.Guarded, db.At(d.now())))
	})
}

// DeleteRole removes a role from everybody.
func (d *Directory) DeleteRole(ctx context.Context, actor, id string) error {
	return d.alter(ctx, "delete role", audit.Event{Action: "role.delete", Actor: actor, Detail: map[string]string{"role_id": id}}, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM roles WHERE id = $1`, id))
	})
}

const roleColumns = `r.id, r.name, r.description, r.guarded, r.created_at, r.updated_at`

func scanRole(row db.Scanner, more ...any) (r Role, err error) {
	var created, updated db.Time
	err = row.Scan(append([]any{&r.ID, &r.Name, &r.Description, &r.Guarded, &created, &updated}, more...)...)
	r.CreatedAt, r.UpdatedAt, r.Permissions = created.Time, updated.Time, []Permission{}
	return r, err
}

// Role returns a role by its id, with its permissions, or ErrNotFound.
func (d *Directory) Role(ctx context.Context, id string) (Role, error) {
	return d.role(ctx, `r.id = $1`, id)
}

// RoleNamed returns the role that has a name now, in any case, or ErrNotFound.
func (d *Directory) RoleNamed(ctx context.Context, name string) (Role, error) {
	return d.role(ctx, `r.name_key = $1`, nameKey(strings.TrimSpace(name)))
}

func (d *Directory) role(ctx context.Context, where, arg string) (Role, error) {
	r, err := scanRole(d.db.QueryRow(ctx, `SELECT `+roleColumns+` FROM roles r WHERE `+where, arg))
	if err != nil {
		return Role{}, fmt.Errorf("read role: %w", err)
	}
	r.Permissions, err = d.permissions(ctx, `SELECT p.id, a.identifier, p.name, p.description
		FROM role_permissions rp JOIN api_permissions p ON p.id = rp.permission_id JOIN apis a ON a.id = p.api_id
		WHERE rp.role_id = $1 ORDER BY a.identifier, p.name`, r.ID)
	return r, err
}

// Roles lists roles by name, without their permissions, from the one after the name "after"; at most 200 at once.
func (d *Directory) Roles(ctx context.Context, after string, limit int) ([]Role, error) {
	return d.roles(ctx, `SELECT `+roleColumns+` FROM roles r WHERE r.name_key > $1 ORDER BY r.name_key LIMIT $2`, nameKey(after), pageSize(limit))
}

// RolesOfGroup lists what was given to a group itself.
func (d *Directory) RolesOfGroup(ctx context.Context, groupID string) ([]Role, error) {
	return d.roles(ctx, `SELECT `+roleColumns+` FROM roles r JOIN group_roles gr ON gr.role_id = r.id WHERE gr.group_id = $1 ORDER BY r.name_key`, groupID)
}

func (d *Directory) roles(ctx context.Context, query string, args ...any) ([]Role, error) {
	list := []Role{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		r, err := scanRole(row)
		list = append(list, r)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	return list, nil
}

// Permit adds a permission to a role.
func (d *Directory) Permit(ctx context.Context, actor, roleID, permissionID string) error {
	e := audit.Event{Action: "role.permit", Actor: actor, Detail: map[string]string{"role_id": roleID, "permission_id": permissionID}}
	return d.alter(ctx, "add permission to role", e, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO role_permissions (role_id, permission_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, roleID, permissionID)
		return err
	})
}

// Forbid takes a permission out of a role.
func (d *Directory) Forbid(ctx context.Context, actor, roleID, permissionID string) error {
	e := audit.Event{Action: "role.forbid", Actor: actor, Detail: map[string]string{"role_id": roleID, "permission_id": permissionID}}
	return d.alter(ctx, "take permission out of role", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM role_permissions WHERE role_id = $1 AND permission_id = $2`, roleID, permissionID))
	})
}

// GiveRole gives a role to a person.
func (d *Directory) GiveRole(ctx context.Context, actor, roleID, userID string) error {
	e := audit.Event{Action: "role.give", Actor: actor, UserID: userID, Detail: map[string]string{"role_id": roleID}}
	return d.alter(ctx, "give role", e, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO user_roles (user_id, role_id, given_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, userID, roleID, db.At(d.now()))
		return err
	})
}

// TakeRole takes a role from a person. What they hold by a group stays.
func (d *Directory) TakeRole(ctx context.Context, actor, roleID, userID string) error {
	e := audit.Event{Action: "role.take", Actor: actor, UserID: userID, Detail: map[string]string{"role_id": roleID}}
	return d.alter(ctx, "take role", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM user_roles WHERE user_id = $1 AND role_id = $2`, userID, roleID))
	})
}

// GiveRoleToGroup gives a role to everybody in a group, now and later.
func (d *Directory) GiveRoleToGroup(ctx context.Context, actor, roleID, groupID string) error {
	e := audit.Event{Action: "role.give", Actor: actor, Detail: map[string]string{"role_id": roleID, "group_id": groupID}}
	return d.alter(ctx, "give role to group", e, func(ctx context.Context) error {
		_, err := d.db.Exec(ctx, `INSERT INTO group_roles (group_id, role_id, given_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, groupID, roleID, db.At(d.now()))
		return err
	})
}

// TakeRoleFromGroup is the way back.
func (d *Directory) TakeRoleFromGroup(ctx context.Context, actor, roleID, groupID string) error {
	e := audit.Event{Action: "role.take", Actor: actor, Detail: map[string]string{"role_id": roleID, "group_id": groupID}}
	return d.alter(ctx, "take role from group", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM group_roles WHERE group_id = $1 AND role_id = $2`, groupID, roleID))
	})
}

// HeldRole is a role that a person has, in whichever way.
type HeldRole struct {
	ID, Name string
	APIs     []string // identifiers of the APIs at which it permits something
	May      []string // what it permits, in words or by name
}

// Rights is what a person may do and where they belong: their own roles and groups with what nesting adds.
type Rights struct {
	Groups      []Group // id and name only
	Roles       []HeldRole
	Permissions []Permission
}

// maxRights bounds one reading of Rights; what lies behind it is not granted.
const maxRights = 5000

// Rights tells what a person has at this moment, in one statement.
func (d *Directory) Rights(ctx context.Context, userID string) (Rights, error) {
	var out Rights
	rows := 0
	err := d.db.Query(ctx, func(row db.Scanner) error {
		rows++
		var kind, id, name, api, description string
		if err := row.Scan(&kind, &id, &name, &api, &description); err != nil {
			return err
		}
		switch kind {
		case "1":
			out.Groups = append(out.Groups, Group{ID: id, Name: name, Description: description})
		case "2":
			if n := len(out.Roles); n == 0 || out.Roles[n-1].ID != id {
				out.Roles = append(out.Roles, HeldRole{ID: id, Name: name})
			}
			if last := &out.Roles[len(out.Roles)-1]; api != "" {
				last.APIs, last.May = append(last.APIs, api), append(last.May, description)
			}
		default:
			out.Permissions = append(out.Permissions, Permission{ID: id, API: api, Name: name, Description: description})
		}
		return nil
	}, `SELECT kind, id, name, api, description FROM (`+groupsOfPerson+`,
		held (id) AS (SELECT role_id FROM user_roles WHERE user_id = $1 UNION SELECT gr.role_id FROM group_roles gr JOIN mine ON mine.id = gr.group_id)
		SELECT '1' AS kind, g.id AS id, g.name AS name, '' AS api, g.description AS description FROM mine JOIN groups g ON g.id = mine.id
		UNION
		SELECT '2', r.id, r.name, COALESCE(a.identifier, ''), COALESCE(NULLIF(p.description, ''), p.name, '') FROM held JOIN roles r ON r.id = held.id
			LEFT JOIN role_permissions rp ON rp.role_id = r.id LEFT JOIN api_permissions p ON p.id = rp.permission_id LEFT JOIN apis a ON a.id = p.api_id
		UNION
		SELECT '3', p.id, p.name, a.identifier, p.description FROM held JOIN role_permissions rp ON rp.role_id = held.id
			JOIN api_permissions p ON p.id = rp.permission_id JOIN apis a ON a.id = p.api_id
		) AS rights ORDER BY kind, name, id, api LIMIT $2`, userID, maxRights)
	if err != nil {
		return Rights{}, fmt.Errorf("read rights: %w", err)
	}
	if rows == maxRights {
		d.log.WarnContext(ctx, "more rights than are read", "user_id", userID)
	}
	return out, nil
}
