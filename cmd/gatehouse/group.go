package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/identity"
)

type groupCommands struct {
	Create groupCreate `cmd:"" help:"Make a group."`
	List   groupList   `cmd:"" help:"List groups by name."`
	Show   groupShow   `cmd:"" help:"Show a group: who and which groups are in it, where it stands, and its roles."`
	Update groupUpdate `cmd:"" help:"Rename a group or describe it anew; everything given to it stays."`
	Add    groupAdd    `cmd:"" help:"Put people and groups into a group, and give it roles."`
	Remove groupRemove `cmd:"" help:"Take people, groups and roles out of a group."`
	Delete groupDelete `cmd:"" help:"Remove a group. Another one of the same name gets nothing of it."`
}

// findGroup takes a name or an id.
func findGroup(ctx context.Context, people *identity.Directory, which string) (g identity.Group, err error) {
	if _, bad := uuid.Parse(which); bad == nil {
		g, err = people.Group(ctx, which)
	} else {
		g, err = people.GroupNamed(ctx, which)
	}
	if errors.Is(err, identity.ErrNotFound) {
		err = fmt.Errorf("there is no group %q: `gatehouse group list` shows them all", which)
	}
	return g, err
}

// inWords is an error of the directory in words of the command line; what names the kind of thing.
func inWords(err error, what string) error {
	var fields identity.FieldErrors
	switch {
	case errors.Is(err, identity.ErrNameTaken):
		return fmt.Errorf("there is %s of this name already", what)
	case errors.Is(err, identity.ErrGroupCycle):
		return errors.New("the group would stand in itself")
	case errors.Is(err, identity.ErrGroupDepth):
		return fmt.Errorf("at most %d groups stand in one another", identity.MaxGroupDepth)
	case errors.As(err, &fields):
		for _, flag := range []string{"name", "description", "identifier", "permission", "value", "pattern", "option", "type", "claim", "scope", "edit", "view", "token-ttl", "client", "format"} {
			if key := fields[flag]; key != "" {
				return badSetting(flag, "%s", fieldWords[key])
			}
		}
	}
	return err
}

// fieldWords says what is wrong with a value.
var fieldWords = map[string]string{
	identity.KeyRequired:         "is missing",
	identity.KeyTooLong:          "is too long",
	identity.KeyCharacters:       "has characters that cannot stand here",
	identity.KeyOption:           "is not one of those that can be chosen",
	identity.KeyNumber:           "is not a number",
	identity.KeyPattern:          "does not have the form that is asked for",
	identity.KeyReserved:         "means something else that apps rely on",
	identity.KeyBirthdateInvalid: "is not a date: write it like 2026-01-31",
	identity.KeyURLInvalid:       "give an absolute URI without fragment, or the id of a client",
}

// groupMember is a person in a group as the commands print one.
type groupMember struct {
	ID       string    `json:"id"`
	Email    string    `json:"email"`
	Admin    bool      `json:"admin"`
	JoinedAt time.Time `json:"joined_at"`
}

// groupRecord is a group with what belongs to it.
type groupRecord struct {
	identity.Group
	Members []groupMember    `json:"members"`
	Groups  []identity.Group `json:"groups"`    // in it
	In      []identity.Group `json:"in_groups"` // around it
	Roles   []identity.Role  `json:"roles"`
}

func readGroup(ctx context.Context, people *identity.Directory, which string) (r groupRecord, err error) {
	if r.Group, err = findGroup(ctx, people, which); err != nil {
		return r, err
	}
	r.Members = []groupMember{}
	for after := ""; ; {
		page, err := people.Members(ctx, r.ID, after, 0)
		if err != nil {
			return r, err
		}
		for _, m := range page {
			r.Members = append(r.Members, groupMember{m.User.ID, m.User.Email, m.Admin, m.JoinedAt})
			after = m.User.ID
		}
		if len(page) == 0 {
			break
		}
	}
	if r.Groups, err = people.Subgroups(ctx, r.ID); err != nil {
		return r, err
	}
	if r.In, err = people.Supergroups(ctx, r.ID); err != nil {
		return r, err
	}
	r.Roles, err = people.RolesOfGroup(ctx, r.ID)
	return r, err
}

func (r groupRecord) write(w io.Writer) {
	_, _ = fmt.Fprintf(w, "id\t%s\nname\t%s\n", r.ID, r.Name)
	if r.Description != "" {
		_, _ = fmt.Fprintf(w, "description\t%s\n", r.Description)
	}
	for _, m := range r.Members {
		kind := "member"
		if m.Admin {
			kind = "admin"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", kind, m.Email, m.ID)
	}
	for _, g := range r.Groups {
		_, _ = fmt.Fprintf(w, "holds group\t%s\t%s\n", g.Name, g.ID)
	}
	for _, g := range r.In {
		_, _ = fmt.Fprintf(w, "is in group\t%s\t%s\n", g.Name, g.ID)
	}
	for _, role := range r.Roles {
		_, _ = fmt.Fprintf(w, "role\t%s\t%s\n", role.Name, role.ID)
	}
}

func printGroup(t *terminal, people *identity.Directory, id string) error {
	r, err := readGroup(t.ctx, people, id)
	if err != nil {
		return err
	}
	return t.print(r, r.write)
}

type groupCreate struct {
	Name        string  `required:"" placeholder:"NAME" help:"Name that people and apps see."`
	Description string  `placeholder:"TEXT" help:"What it is for."`
	Storage     storage `embed:""`
}

// Run implements the command.
func (c *groupCreate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		g, err := people.CreateGroup(t.ctx, "", c.Name, c.Description)
		if err != nil {
			return inWords(err, "a group")
		}
		return printGroup(t, people, g.ID)
	})
}

type groupList struct {
	After   string  `help:"Begin behind this name." placeholder:"NAME"`
	Limit   int     `help:"Number of groups. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *groupList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		list, err := people.Groups(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tNAME\tDESCRIPTION\tCREATED")
			for _, g := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.ID, g.Name, g.Description, when(g.CreatedAt))
			}
			if len(list) == c.Limit {
				more(w, list[c.Limit-1].Name)
			}
		})
	})
}

type groupShow struct {
	Group   string  `arg:"" name:"group" help:"Name or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *groupShow) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error { return printGroup(t, people, c.Group) })
}

type groupUpdate struct {
	Group       string  `arg:"" name:"group" help:"Name or id."`
	Name        *string `placeholder:"NAME" help:"Another name."`
	Description *string `placeholder:"TEXT" help:"Another description."`
	Storage     storage `embed:""`
}

// Run implements the command.
func (c *groupUpdate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		g, err := findGroup(t.ctx, people, c.Group)
		if err != nil {
			return err
		}
		set(&g.Name, c.Name)
		set(&g.Description, c.Description)
		if err := people.UpdateGroup(t.ctx, "", g); err != nil {
			return inWords(err, "a group")
		}
		return printGroup(t, people, g.ID)
	})
}

// groupParts names what is put into a group or taken out.
type groupParts struct {
	Member []string `placeholder:"ACCOUNT" sep:"none" help:"A person, by email address or id; repeat."`
	Nested []string `name:"group" placeholder:"GROUP" sep:"none" help:"A group, whose people are then in this one too, by name or id; repeat."`
	Role   []string `placeholder:"ROLE" sep:"none" help:"A role that everybody in the group has, by name or id; repeat."`
}

// each calls a function for every part.
func (p groupParts) each(ctx context.Context, people *identity.Directory, member, group, role func(id string) error) error {
	if len(p.Member)+len(p.Nested)+len(p.Role) == 0 {
		return badSetting("member", "name somebody, or use --group or --role")
	}
	// Everything is looked up before anything is changed.
	var todo []func() error
	for _, who := range p.Member {
		u, err := findUser(ctx, people, who)
		if err != nil {
			return err
		}
		todo = append(todo, func() error { return missing(member(u.ID), "%s is not in the group", who) })
	}
	for _, which := range p.Nested {
		g, err := findGroup(ctx, people, which)
		if err != nil {
			return err
		}
		todo = append(todo, func() error { return missing(inWords(group(g.ID), "a group"), "%s is not in the group", which) })
	}
	for _, which := range p.Role {
		r, err := findRole(ctx, people, which)
		if err != nil {
			return err
		}
		todo = append(todo, func() error { return missing(role(r.ID), "the group does not have the role %s", which) })
	}
	for _, f := range todo {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// missing gives ErrNotFound words.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf(format, args...)
	}
	return err
}

type groupAdd struct {
	Group   string     `arg:"" name:"group" help:"Name or id."`
	Parts   groupParts `embed:""`
	Admin   bool       `help:"The people become admins of the group: they see its members, invite others and see members out. Without it they are members only."`
	Storage storage    `embed:""`
}

// Run implements the command.
func (c *groupAdd) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		g, err := findGroup(t.ctx, people, c.Group)
		if err != nil {
			return err
		}
		if err := c.Parts.each(t.ctx, people,
			func(id string) error { return people.AddMember(t.ctx, "", g.ID, id, c.Admin) },
			func(id string) error { return people.Nest(t.ctx, "", g.ID, id) },
			func(id string) error { return people.GiveRoleToGroup(t.ctx, "", id, g.ID) },
		); err != nil {
			return err
		}
		return printGroup(t, people, g.ID)
	})
}

type groupRemove struct {
	Group   string     `arg:"" name:"group" help:"Name or id."`
	Parts   groupParts `embed:""`
	Storage storage    `embed:""`
}

// Run implements the command.
func (c *groupRemove) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		g, err := findGroup(t.ctx, people, c.Group)
		if err != nil {
			return err
		}
		if err := c.Parts.each(t.ctx, people,
			func(id string) error { return people.RemoveMember(t.ctx, "", g.ID, id) },
			func(id string) error { return people.Unnest(t.ctx, "", g.ID, id) },
			func(id string) error { return people.TakeRoleFromGroup(t.ctx, "", id, g.ID) },
		); err != nil {
			return err
		}
		return printGroup(t, people, g.ID)
	})
}

type groupDelete struct {
	Group   string  `arg:"" name:"group" help:"Name or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *groupDelete) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		g, err := findGroup(t.ctx, people, c.Group)
		if err != nil {
			return err
		}
		if err := people.DeleteGroup(t.ctx, "", g.ID); err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": g.ID, "name": g.Name}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", g.Name) })
	})
}
