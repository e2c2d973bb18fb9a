package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

type attributeCommands struct {
	Create attributeCreate `cmd:"" help:"Define something that is known of people beside the standard profile."`
	List   attributeList   `cmd:"" help:"List definitions, or what is known of a person."`
	Show   attributeShow   `cmd:"" help:"Show a definition."`
	Add    attributeAdd    `cmd:"" help:"Give an attribute to apps as a claim of userinfo."`
	Remove attributeRemove `cmd:"" help:"Take such a claim away."`
	Set    attributeSet    `cmd:"" help:"Set the value of a person."`
	Delete attributeDelete `cmd:"" help:"Remove a definition with everybody's values."`
}

func findAttribute(ctx context.Context, people *identity.Directory, name string) (identity.Attribute, error) {
	a, err := people.Attribute(ctx, name)
	if errors.Is(err, identity.ErrNotFound) {
		err = fmt.Errorf("there is no attribute %q: `gatehouse attribute list` shows them all", name)
	}
	return a, err
}

func printAttribute(t *terminal, people *identity.Directory, name string) error {
	a, err := findAttribute(t.ctx, people, name)
	if err != nil {
		return err
	}
	return t.print(a, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "name\t%s\nlabel\t%s\ntype\t%s\n", a.Name, a.Label, a.Type)
		if len(a.Options) > 0 {
			_, _ = fmt.Fprintf(w, "options\t%s\n", strings.Join(a.Options, ", "))
		}
		if a.Pattern != "" {
			_, _ = fmt.Fprintf(w, "pattern\t%s\n", a.Pattern)
		}
		_, _ = fmt.Fprintf(w, "required\t%s\nseen by\t%s\nedited by\t%s\n", yes(a.Required), a.View, a.Edit)
		for _, c := range a.Claims {
			app := "every app"
			if c.ClientID != "" {
				app = c.ClientID
			}
			where := "userinfo"
			if c.IDToken {
				where += ", ID token"
			}
			if c.AccessToken {
				where += ", access token"
			}
			_, _ = fmt.Fprintf(w, "claim\t%s\tscope %s\t%s\t%s\n", c.Claim, c.Scope, app, where)
		}
	})
}

type attributeCreate struct {
	Name     string   `required:"" placeholder:"NAME" help:"Name: a-z, 0-9 and _."`
	Label    string   `placeholder:"TEXT" help:"What people see; the name if not given."`
	Type     string   `default:"string" placeholder:"TYPE" help:"string, number, boolean, date, enum or list. [${default}]"`
	Option   []string `placeholder:"TEXT" sep:"none" help:"What can be chosen, for enum and list; repeat."`
	Pattern  string   `placeholder:"REGEXP" help:"Regular expression (RE2) that the whole of a text must match."`
	Required bool     `help:"It cannot be emptied; who may set it and has not is asked for it when signing in."`
	View     string   `default:"admin" placeholder:"WHO" help:"Who sees it on pages: admin, or person for the person as well. [${default}]"`
	Edit     string   `default:"admin" placeholder:"WHO" help:"Who sets it: admin, or person for the person as well. [${default}]"`
	Storage  storage  `embed:""`
}

// Run implements the command.
func (c *attributeCreate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := people.CreateAttribute(t.ctx, "", identity.Attribute{
			Name: c.Name, Label: c.Label, Type: c.Type, Options: c.Option, Pattern: c.Pattern, Required: c.Required, View: c.View, Edit: c.Edit,
		})
		if err != nil {
			return inWords(err, "an attribute")
		}
		return printAttribute(t, people, a.Name)
	})
}

type attributeList struct {
	Account string  `placeholder:"ACCOUNT" help:"What is known of this person."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *attributeList) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		if c.Account != "" {
			return listAttributesOf(t, people, c.Account)
		}
		list, err := people.Attributes(t.ctx)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "NAME\tTYPE\tREQUIRED\tSEEN BY\tEDITED BY\tLABEL")
			for _, a := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.Type, yes(a.Required), a.View, a.Edit, a.Label)
			}
		})
	})
}

func listAttributesOf(t *terminal, people *identity.Directory, who string) error {
	u, err := findUser(t.ctx, people, who)
	if err != nil {
		return err
	}
	list, err := people.AttributesOf(t.ctx, u.ID)
	if err != nil {
		return err
	}
	return t.print(list, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "NAME\tVALUE\tSINCE")
		for _, h := range list {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", h.Name, h.Value, when(h.UpdatedAt))
		}
	})
}

type attributeShow struct {
	Name    string  `arg:"" name:"name" help:"Name of the attribute."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *attributeShow) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error { return printAttribute(t, people, c.Name) })
}

type attributeAdd struct {
	Name    string   `arg:"" name:"name" help:"Name of the attribute."`
	Claim   string   `required:"" placeholder:"CLAIM" help:"Name of the claim; never one that apps rely on, such as sub or groups."`
	Scope   string   `required:"" placeholder:"SCOPE" help:"Scope that the person must have allowed the app."`
	Client  string   `placeholder:"ID" help:"For this app only."`
	In      []string `placeholder:"TOKEN" enum:"id-token,access-token" help:"In these tokens, too: id-token, or access-token, which APIs see; repeat. Userinfo has it always."`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *attributeAdd) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAttribute(t.ctx, people, c.Name)
		if err != nil {
			return err
		}
		err = people.MapAttribute(t.ctx, "", a.ID, identity.AttributeClaim{
			Claim: c.Claim, Scope: c.Scope, ClientID: c.Client, IDToken: slices.Contains(c.In, "id-token"), AccessToken: slices.Contains(c.In, "access-token"),
		})
		if errors.Is(err, identity.ErrNameTaken) {
			return fmt.Errorf("the claim %s is fed by another attribute", c.Claim)
		}
		if err != nil {
			return inWords(err, "a claim")
		}
		return printAttribute(t, people, a.Name)
	})
}

type attributeRemove struct {
	Name    string  `arg:"" name:"name" help:"Name of the attribute."`
	Claim   string  `required:"" placeholder:"CLAIM" help:"Name of the claim."`
	Client  string  `placeholder:"ID" help:"For this app only; without it for all."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *attributeRemove) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAttribute(t.ctx, people, c.Name)
		if err != nil {
			return err
		}
		if err := missing(people.UnmapAttribute(t.ctx, "", a.ID, c.Claim, c.Client), "the attribute does not feed the claim %s", c.Claim); err != nil {
			return err
		}
		return printAttribute(t, people, a.Name)
	})
}

type attributeSet struct {
	Name    string   `arg:"" name:"name" help:"Name of the attribute."`
	Who     string   `arg:"" name:"account" help:"Email address or id."`
	Value   []string `placeholder:"TEXT" sep:"none" help:"The value; repeat for a list. Without it the value is removed."`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *attributeSet) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAttribute(t.ctx, people, c.Name)
		if err != nil {
			return err
		}
		u, err := findUser(t.ctx, people, c.Who)
		if err != nil {
			return err
		}
		err = people.SetAttributes(t.ctx, "", u.ID, false, map[string]string{a.Name: strings.Join(c.Value, "\n")})
		var fields identity.FieldErrors
		if errors.As(err, &fields) {
			return badSetting("value", "%s", fieldWords[fields[a.Name]])
		}
		if err != nil {
			return err
		}
		return listAttributesOf(t, people, u.ID)
	})
}

type attributeDelete struct {
	Name    string  `arg:"" name:"name" help:"Name of the attribute."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *attributeDelete) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAttribute(t.ctx, people, c.Name)
		if err != nil {
			return err
		}
		if err := people.DeleteAttribute(t.ctx, "", a.ID); err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": a.ID, "name": a.Name}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", a.Name) })
	})
}
