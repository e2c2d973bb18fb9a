package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/identity"
)

type apiCommands struct {
	Create   apiCreate   `cmd:"" help:"Register an API that roles open and access tokens are asked for."`
	List     apiList     `cmd:"" help:"List APIs by identifier."`
	Show     apiShow     `cmd:"" help:"Show an API with its scopes and permissions."`
	Update   apiUpdate   `cmd:"" help:"Change what is given and leave the rest."`
	Add      apiAdd      `cmd:"" help:"Add permissions to an API, or describe them anew."`
	Remove   apiRemove   `cmd:"" help:"Remove permissions from an API, and so from every role."`
	Delete   apiDelete   `cmd:"" help:"Remove an API with its permissions."`
	Metadata apiMetadata `cmd:"" help:"Print the protected-resource metadata (RFC 9728) that the API serves."`
}

func findAPI(ctx context.Context, people *identity.Directory, identifier string) (identity.API, error) {
	a, err := people.API(ctx, identifier)
	if errors.Is(err, identity.ErrNotFound) {
		err = fmt.Errorf("there is no API %q: `gatehouse api list` shows them all", identifier)
	}
	return a, err
}

func printAPI(t *terminal, people *identity.Directory, identifier string) error {
	a, err := findAPI(t.ctx, people, identifier)
	if err != nil {
		return err
	}
	return t.print(a, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "identifier\t%s\nname\t%s\nid\t%s\n", a.Identifier, a.Name, a.ID)
		writeResource(w, a.Resource)
		for _, p := range a.Permissions {
			_, _ = fmt.Fprintf(w, "permission\t%s\t%s\n", p.Name, p.Description)
		}
	})
}

type apiCreate struct {
	Identifier string         `required:"" placeholder:"URI" help:"What access tokens for it name as their audience: an absolute URI, or the id of a client that looks at permissions itself."`
	Name       string         `required:"" placeholder:"NAME" help:"Name for people."`
	Permission []string       `placeholder:"NAME[=TEXT]" sep:"none" help:"Something that may be done there, and what it means; repeat."`
	Resource   resourceFields `embed:""`
	Storage    storage        `embed:""`
}

// Run implements the command.
func (c *apiCreate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a := identity.API{Name: c.Name, Identifier: c.Identifier}
		c.Resource.apply(&a.Resource)
		a, err := people.CreateResource(t.ctx, "", a)
		if err != nil {
			return inWords(err, "an API")
		}
		if err := addPermissions(t.ctx, people, a, c.Permission); err != nil {
			return err
		}
		return printAPI(t, people, a.Identifier)
	})
}

func addPermissions(ctx context.Context, people *identity.Directory, a identity.API, permissions []string) error {
	for _, p := range permissions {
		name, description, _ := strings.Cut(p, "=")
		if err := people.AddPermission(ctx, "", a.ID, name, description); err != nil {
			return inWords(err, "a permission")
		}
	}
	return nil
}

type apiList struct {
	After   string  `help:"Begin behind this identifier." placeholder:"URI"`
	Limit   int     `help:"Number of APIs. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *apiList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		list, err := people.APIs(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "IDENTIFIER\tNAME\tCREATED")
			for _, a := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", a.Identifier, a.Name, when(a.CreatedAt))
			}
			if len(list) == c.Limit {
				more(w, list[c.Limit-1].Identifier)
			}
		})
	})
}

type apiShow struct {
	Identifier string  `arg:"" name:"identifier" help:"Identifier of the API."`
	Storage    storage `embed:""`
}

// Run implements the command.
func (c *apiShow) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error { return printAPI(t, people, c.Identifier) })
}

type apiAdd struct {
	Identifier string   `arg:"" name:"identifier" help:"Identifier of the API."`
	Permission []string `required:"" placeholder:"NAME[=TEXT]" sep:"none" help:"Something that may be done there, and what it means; repeat."`
	Storage    storage  `embed:""`
}

// Run implements the command.
func (c *apiAdd) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAPI(t.ctx, people, c.Identifier)
		if err != nil {
			return err
		}
		if err := addPermissions(t.ctx, people, a, c.Permission); err != nil {
			return err
		}
		return printAPI(t, people, a.Identifier)
	})
}

type apiRemove struct {
	Identifier string   `arg:"" name:"identifier" help:"Identifier of the API."`
	Permission []string `required:"" placeholder:"NAME" sep:"none" help:"What is to go; repeat."`
	Storage    storage  `embed:""`
}

// Run implements the command.
func (c *apiRemove) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAPI(t.ctx, people, c.Identifier)
		if err != nil {
			return err
		}
		for _, name := range c.Permission {
			if err := missing(people.RemovePermission(t.ctx, "", a.ID, name), "the API has no permission %s", name); err != nil {
				return err
			}
		}
		return printAPI(t, people, a.Identifier)
	})
}

type apiDelete struct {
	Identifier string  `arg:"" name:"identifier" help:"Identifier of the API."`
	Storage    storage `embed:""`
}

// Run implements the command.
func (c *apiDelete) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAPI(t.ctx, people, c.Identifier)
		if err != nil {
			return err
		}
		if err := people.DeleteAPI(t.ctx, "", a.ID); err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": a.Identifier}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", a.Identifier) })
	})
}

type roleCommands struct {
	Create roleCreate `cmd:"" help:"Make a role."`
	List   roleList   `cmd:"" help:"List roles by name, or those of a person."`
	Show   roleShow   `cmd:"" help:"Show a role with its permissions."`
	Update roleUpdate `cmd:"" help:"Rename a role, describe it anew, guard it or not."`
	Add    roleAdd    `cmd:"" help:"Put permissions into a role, and give it to people."`
	Remove roleRemove `cmd:"" help:"Take permissions out of a role, and the role from people."`
	Delete roleDelete `cmd:"" help:"Remove a role from everybody. Another one of the same name gets nothing of it."`
}

// findRole takes a name or an id.
func findRole(ctx context.Context, people *identity.Directory, which string) (r identity.Role, err error) {
	if _, bad := uuid.Parse(which); bad == nil {
		r, err = people.Role(ctx, which)
	} else {
		r, err = people.RoleNamed(ctx, which)
	}
	if errors.Is(err, identity.ErrNotFound) {
		err = fmt.Errorf("there is no role %q: `gatehouse role list` shows them all", which)
	}
	return r, err
}

func printRole(t *terminal, people *identity.Directory, id string) error {
	r, err := findRole(t.ctx, people, id)
	if err != nil {
		return err
	}
	return t.print(r, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "id\t%s\nname\t%s\n", r.ID, r.Name)
		if r.Description != "" {
			_, _ = fmt.Fprintf(w, "description\t%s\n", r.Description)
		}
		_, _ = fmt.Fprintf(w, "guarded\t%s\n", yes(r.Guarded))
		for _, p := range r.Permissions {
			_, _ = fmt.Fprintf(w, "permission\t%s#%s\t%s\n", p.API, p.Name, p.Description)
		}
	})
}

type roleCreate struct {
	Name        string   `required:"" placeholder:"NAME" help:"Name that people and apps see."`
	Description string   `placeholder:"TEXT" help:"What it is for."`
	Guarded     bool     `help:"Given by operators only: admins of a group that carries it cannot invite people."`
	Permission  []string `placeholder:"API#NAME" sep:"none" help:"What it permits, such as https://api.example.com#orders:read; repeat."`
	Storage     storage  `embed:""`
}

// Run implements the command.
func (c *roleCreate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		permissions, err := findPermissions(t.ctx, people, c.Permission)
		if err != nil {
			return err
		}
		r, err := people.CreateRole(t.ctx, "", identity.Role{Name: c.Name, Description: c.Description, Guarded: c.Guarded})
		if err != nil {
			return inWords(err, "a role")
		}
		for _, p := range permissions {
			if err := people.Permit(t.ctx, "", r.ID, p); err != nil {
				return err
			}
		}
		return printRole(t, people, r.ID)
	})
}

// findPermissions gives the ids of permissions that are written API#NAME.
func findPermissions(ctx context.Context, people *identity.Directory, list []string) (ids []string, err error) {
	for _, p := range list {
		identifier, name, ok := strings.Cut(p, "#")
		if !ok {
			return nil, badSetting("permission", "%q: write it as API#NAME, such as https://api.example.com#orders:read", p)
		}
		a, err := findAPI(ctx, people, identifier)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(a.Permissions, func(p identity.Permission) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the API %s has no permission %q: `gatehouse api add` adds one", identifier, name)
		}
		ids = append(ids, a.Permissions[i].ID)
	}
	return ids, nil
}

type roleList struct {
	Account string  `placeholder:"ACCOUNT" help:"Only what this person has, directly or by a group."`
	After   string  `help:"Begin behind this name." placeholder:"NAME"`
	Limit   int     `help:"Number of roles. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *roleList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		if c.Account != "" {
			return listRolesOf(t, people, c.Account)
		}
		list, err := people.Roles(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tNAME\tGUARDED\tDESCRIPTION\tCREATED")
			for _, r := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Name, yes(r.Guarded), r.Description, when(r.CreatedAt))
			}
			if len(list) == c.Limit {
				more(w, list[c.Limit-1].Name)
			}
		})
	})
}

func listRolesOf(t *terminal, people *identity.Directory, who string) error {
	u, err := findUser(t.ctx, people, who)
	if err != nil {
		return err
	}
	list, err := people.RolesOf(t.ctx, u.ID)
	if err != nil {
		return err
	}
	return t.print(list, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "ID\tNAME\tBY\tSINCE")
		for _, r := range list {
			by := "a group"
			if r.Direct {
				by = "itself"
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Name, by, when(r.GivenAt))
		}
	})
}

type roleShow struct {
	Role    string  `arg:"" name:"role" help:"Name or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *roleShow) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error { return printRole(t, people, c.Role) })
}

type roleUpdate struct {
	Role        string  `arg:"" name:"role" help:"Name or id."`
	Name        *string `placeholder:"NAME" help:"Another name."`
	Description *string `placeholder:"TEXT" help:"Another description."`
	Guarded     *bool   `negatable:"" help:"Given by operators only."`
	Storage     storage `embed:""`
}

// Run implements the command.
func (c *roleUpdate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		r, err := findRole(t.ctx, people, c.Role)
		if err != nil {
			return err
		}
		set(&r.Name, c.Name)
		set(&r.Description, c.Description)
		set(&r.Guarded, c.Guarded)
		if err := people.UpdateRole(t.ctx, "", r); err != nil {
			return inWords(err, "a role")
		}
		return printRole(t, people, r.ID)
	})
}

// roleParts names what is put into a role or taken out, and who gets or loses it.
type roleParts struct {
	Permission []string `placeholder:"API#NAME" sep:"none" help:"What it permits, such as https://api.example.com#orders:read; repeat."`
	Member     []string `placeholder:"ACCOUNT" sep:"none" help:"A person, by email address or id; repeat. Groups get roles by group add --role."`
}

func (p roleParts) each(ctx context.Context, people *identity.Directory, permission, member func(id string) error) error {
	if len(p.Permission)+len(p.Member) == 0 {
		return badSetting("permission", "name one, or use --member")
	}
	permissions, err := findPermissions(ctx, people, p.Permission)
	if err != nil {
		return err
	}
	var members []string
	for _, who := range p.Member {
		u, err := findUser(ctx, people, who)
		if err != nil {
			return err
		}
		members = append(members, u.ID)
	}
	for i, id := range permissions {
		if err := missing(permission(id), "the role does not permit %s", p.Permission[i]); err != nil {
			return err
		}
	}
	for i, id := range members {
		if err := missing(member(id), "the role was not given to %s", p.Member[i]); err != nil {
			return err
		}
	}
	return nil
}

type roleAdd struct {
	Role    string    `arg:"" name:"role" help:"Name or id."`
	Parts   roleParts `embed:""`
	Storage storage   `embed:""`
}

// Run implements the command.
func (c *roleAdd) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		r, err := findRole(t.ctx, people, c.Role)
		if err != nil {
			return err
		}
		if err := c.Parts.each(t.ctx, people,
			func(id string) error { return people.Permit(t.ctx, "", r.ID, id) },
			func(id string) error { return people.GiveRole(t.ctx, "", r.ID, id) },
		); err != nil {
			return err
		}
		return printRole(t, people, r.ID)
	})
}

type roleRemove struct {
	Role    string    `arg:"" name:"role" help:"Name or id."`
	Parts   roleParts `embed:""`
	Storage storage   `embed:""`
}

// Run implements the command.
func (c *roleRemove) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		r, err := findRole(t.ctx, people, c.Role)
		if err != nil {
			return err
		}
		if err := c.Parts.each(t.ctx, people,
			func(id string) error { return people.Forbid(t.ctx, "", r.ID, id) },
			func(id string) error { return people.TakeRole(t.ctx, "", r.ID, id) },
		); err != nil {
			return err
		}
		return printRole(t, people, r.ID)
	})
}

type roleDelete struct {
	Role    string  `arg:"" name:"role" help:"Name or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *roleDelete) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		r, err := findRole(t.ctx, people, c.Role)
		if err != nil {
			return err
		}
		if err := people.DeleteRole(t.ctx, "", r.ID); err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": r.ID, "name": r.Name}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", r.Name) })
	})
}
