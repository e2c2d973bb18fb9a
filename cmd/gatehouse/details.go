package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type detailsCommands struct {
	Create detailsCreate `cmd:"" help:"Register a type."`
	Update detailsUpdate `cmd:"" help:"Change a type; what is granted already is held against it from the next token on."`
	List   detailsList   `cmd:"" help:"List types."`
	Show   detailsShow   `cmd:"" help:"Show a type with its schema and words."`
	Delete detailsDelete `cmd:"" help:"Remove a type; nothing of it is granted from then on."`
}

func withDetails(t *terminal, s *storage, f func(types oauth.DetailsTypes) error) error {
	return withData(t, s, func(d *data) error { return f(oauth.DetailsTypes{DB: d.db, Audit: d.audit, Now: time.Now}) })
}

func printDetails(t *terminal, types oauth.DetailsTypes, name string) error {
	d, err := types.Get(t.ctx, name)
	if errors.Is(err, db.ErrNotFound) {
		err = fmt.Errorf("there is no type %q: `gatehouse details-type list` shows them all", name)
	}
	if err != nil {
		return err
	}
	return t.print(d, func(w io.Writer) {
		schema, _ := json.Marshal(d.Schema) // it was read from JSON
		_, _ = fmt.Fprintf(w, "type\t%s\nschema\t%s\n", d.Type, schema)
		if len(d.APIs) > 0 {
			_, _ = fmt.Fprintf(w, "apis\t%s\n", strings.Join(d.APIs, " "))
		}
		for _, language := range d.Languages() {
			_, _ = fmt.Fprintf(w, "words\t%s\t%s\n", language, d.Words[language])
		}
	})
}

type detailsCreate struct {
	Type    string   `arg:"" name:"type" help:"Name of the type, as apps send it."`
	Schema  string   `required:"" placeholder:"FILE" help:"JSON Schema of its objects: type, properties, required, items, enum, maxLength, maxItems, minimum, maximum."`
	Words   []string `required:"" placeholder:"LANG=TEXT" sep:"none" help:"What people read, such as 'en=pay {amount.value} to {creditor}'; repeat for each language."`
	API     []string `name:"api" placeholder:"URI" sep:"none" help:"Identifier of an API that the type is for; repeat. Tokens for others do not carry it. Without any it is for all."`
	Storage storage  `embed:""`
}

// readSchema reads the file of a schema.
func readSchema(path string) (*oauth.Schema, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var schema *oauth.Schema
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields() // a rule that is not understood would not be kept
	if err := decoder.Decode(&schema); err != nil {
		return nil, badSetting("schema", "%s: %v", path, err)
	}
	return schema, nil
}

// checkAPIs wants that the APIs of a type are registered.
func checkAPIs(t *terminal, d *data, identifiers []string) error {
	people, err := openPeople(t.ctx, d)
	for _, identifier := range identifiers {
		if err == nil {
			_, err = findAPI(t.ctx, people, identifier)
		}
	}
	return err
}

type detailsUpdate struct {
	Type    string   `arg:"" name:"type" help:"Name of the type."`
	Schema  string   `placeholder:"FILE" help:"Another JSON Schema of its objects."`
	Words   []string `placeholder:"LANG=TEXT" sep:"none" help:"What people read in a language, in place of what they read before; 'de=' takes a language away; repeat."`
	API     []string `name:"api" placeholder:"URI" sep:"none" help:"Identifier of an API that the type is for, in place of those before; repeat. '' is any API."`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *detailsUpdate) Run(t *terminal) error {
	return withData(t, &c.Storage, func(d *data) error {
		types := oauth.DetailsTypes{DB: d.db, Audit: d.audit, Now: time.Now}
		kind, err := types.Get(t.ctx, c.Type)
		if err := missing(err, "there is no type %q", c.Type); err != nil {
			return err
		}
		if c.Schema != "" {
			if kind.Schema, err = readSchema(c.Schema); err != nil {
				return err
			}
		}
		for _, words := range c.Words {
			language, text, _ := strings.Cut(words, "=")
			if kind.Words[language] = text; text == "" {
				delete(kind.Words, language)
			}
		}
		if len(c.API) > 0 {
			kind.APIs = slices.DeleteFunc(c.API, func(identifier string) bool { return identifier == "" })
			if err := checkAPIs(t, d, kind.APIs); err != nil {
				return err
			}
		}
		if err := types.Update(t.ctx, kind); err != nil {
			return err
		}
		return printDetails(t, types, c.Type)
	})
}

// Run implements the command.
func (c *detailsCreate) Run(t *terminal) error {
	schema, err := readSchema(c.Schema)
	if err != nil {
		return err
	}
	d := oauth.DetailsType{Type: c.Type, Schema: schema, Words: map[string]string{}, APIs: c.API}
	for _, words := range c.Words {
		language, text, _ := strings.Cut(words, "=")
		d.Words[language] = text
	}
	return withData(t, &c.Storage, func(opened *data) error {
		if err := checkAPIs(t, opened, d.APIs); err != nil {
			return err
		}
		types := oauth.DetailsTypes{DB: opened.db, Audit: opened.audit, Now: time.Now}
		err := types.Create(t.ctx, d)
		if errors.Is(err, db.ErrConflict) {
			return fmt.Errorf("there is a type %q already", c.Type)
		}
		if err != nil {
			return err
		}
		return printDetails(t, types, c.Type)
	})
}

type detailsList struct {
	Storage storage `embed:""`
}

// Run implements the command.
func (c *detailsList) Run(t *terminal) error {
	return withDetails(t, &c.Storage, func(types oauth.DetailsTypes) error {
		list, err := types.List(t.ctx)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "TYPE\tLANGUAGES\tCREATED")
			for _, d := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", d.Type, strings.Join(d.Languages(), " "), when(d.CreatedAt))
			}
		})
	})
}

type detailsShow struct {
	Type    string  `arg:"" name:"type" help:"Name of the type."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *detailsShow) Run(t *terminal) error {
	return withDetails(t, &c.Storage, func(types oauth.DetailsTypes) error { return printDetails(t, types, c.Type) })
}

type detailsDelete struct {
	Type    string  `arg:"" name:"type" help:"Name of the type."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *detailsDelete) Run(t *terminal) error {
	return withDetails(t, &c.Storage, func(types oauth.DetailsTypes) error {
		if err := missing(types.Delete(t.ctx, c.Type), "there is no type %q", c.Type); err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": c.Type}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", c.Type) })
	})
}
