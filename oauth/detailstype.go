package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/language"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// DetailsType is a kind of authorization_details that an operator has registered (RFC 9396 §2).
type DetailsType struct {
	Type      string            `json:"type"`
	Schema    *Schema           `json:"schema"`         // of the object without its type
	Words     map[string]string `json:"words"`          // by language: what people read, with {member} or {member.member} for values
	APIs      []string          `json:"apis,omitempty"` // identifiers of the APIs it is for; none: any
	CreatedAt time.Time         `json:"created_at"`
}

// Schema is the part of JSON Schema that can be checked in bounded time: no references, no patterns. Unlike there, an object has no
// members but those named: nothing gets into a token that no person was told of.
type Schema struct {
	Type       string             `json:"type"` // object, array, string, number, integer, boolean
	Properties map[string]*Schema `json:"properties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Items      *Schema            `json:"items,omitempty"`
	Enum       []string           `json:"enum,omitempty"` // of strings
	MaxLength  int                `json:"maxLength,omitempty"`
	MaxItems   int                `json:"maxItems,omitempty"`
	Minimum    *float64           `json:"minimum,omitempty"`
	Maximum    *float64           `json:"maximum,omitempty"`
}

// Bounds on schemas and on what they allow.
const (
	maxSchemaDepth   = 4
	maxSchemaMembers = 30
	maxDetailLength  = 300 // characters of a string
	maxDetailItems   = 20
	maxDetailTypes   = 100
	maxSchemaNodes   = 100
	maxWhole         = 1 << 53 // beyond it JSON numbers are not exact everywhere: a token would say another number than the app
)

var placeholder = regexp.MustCompile(`\{([A-Za-z0-9_.-]{1,100})\}`)

func (s *Schema) check(depth int) error {
	switch {
	case s == nil:
		return errors.New("schema: is missing")
	case depth > maxSchemaDepth:
		return fmt.Errorf("schema: at most %d levels", maxSchemaDepth)
	}
	if len(s.Enum) > 0 && s.Type != "string" {
		return errors.New("schema: enum is for strings")
	}
	if len(s.Enum) > maxSchemaMembers || slices.ContainsFunc(s.Enum, func(one string) bool { return len(one) > maxDetailLength || !printable(one) }) {
		return fmt.Errorf("schema: enum has at most %d values of %d printable characters", maxSchemaMembers, maxDetailLength)
	}
	if s.MaxLength < 0 || s.MaxItems < 0 {
		return errors.New("schema: maxLength and maxItems are above 0")
	}
	switch s.Type {
	case "object":
		if len(s.Properties) > maxSchemaMembers {
			return fmt.Errorf("schema: at most %d properties", maxSchemaMembers)
		}
		for name, p := range s.Properties {
			if name == "" || len(name) > maxNameLength || !printable(name) {
				return fmt.Errorf("schema: a property has a name of 1 to %d printable characters", maxNameLength)
			}
			if err := p.check(depth + 1); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if i := slices.IndexFunc(s.Required, func(name string) bool { return s.Properties[name] == nil }); i >= 0 {
			return fmt.Errorf("schema: %q is required and not among the properties", s.Required[i])
		}
	case "array":
		return s.Items.check(depth + 1)
	case "string", "number", "integer", "boolean":
	default:
		return fmt.Errorf("schema: the type %q is not one of object, array, string, number, integer, boolean", s.Type)
	}
	return nil
}

// nodes counts what a schema is made of.
func (s *Schema) nodes() int {
	if s == nil {
		return 0
	}
	n := 1 + s.Items.nodes()
	for _, p := range s.Properties {
		n += p.nodes()
	}
	return n
}

// valid reports whether a decoded JSON value is as the schema says.
func (s *Schema) valid(value any) bool {
	switch s.Type {
	case "object":
		object, ok := value.(map[string]any)
		if !ok || slices.ContainsFunc(s.Required, func(name string) bool { _, ok := object[name]; return !ok }) {
			return false
		}
		for name, v := range object {
			if p := s.Properties[name]; p == nil || !p.valid(v) {
				return false
			}
		}
		return true
	case "array":
		list, ok := value.([]any)
		most := maxDetailItems
		if s.MaxItems > 0 {
			most = min(most, s.MaxItems)
		}
		return ok && len(list) <= most && !slices.ContainsFunc(list, func(v any) bool { return !s.Items.valid(v) })
	case "string":
		text, ok := value.(string)
		most := maxDetailLength
		if s.MaxLength > 0 {
			most = min(most, s.MaxLength)
		}
		return ok && len([]rune(text)) <= most && printable(text) && (len(s.Enum) == 0 || slices.Contains(s.Enum, text))
	case "boolean":
		_, ok := value.(bool)
		return ok
	}
	n, ok := value.(float64)
	return ok && math.Abs(n) <= maxWhole && (s.Type == "number" || n == math.Trunc(n)) && (s.Minimum == nil || n >= *s.Minimum) && (s.Maximum == nil || n <= *s.Maximum)
}

// Validate says in one sentence what is wrong and how to mend it.
func (d DetailsType) Validate() error {
	if err := validateScopes([]string{d.Type}); err != nil || d.Type == "" {
		return fmt.Errorf("type %q: use 1 to 128 printable ASCII characters without space and quote", d.Type)
	}
	if err := d.Schema.check(1); err != nil {
		return err
	}
	if d.Schema.Type != "object" || d.Schema.Properties["type"] != nil || d.Schema.Properties[locationsMember] != nil {
		return errors.New("schema: describe an object; its members type and locations need not be named")
	}
	if n := d.Schema.nodes(); n > maxSchemaNodes {
		return fmt.Errorf("schema: at most %d values altogether, not %d", maxSchemaNodes, n)
	}
	if len(d.APIs) > maxListLength {
		return fmt.Errorf("apis: at most %d", maxListLength)
	}
	if d.Words["en"] == "" {
		return errors.New("words: give at least those for en")
	}
	for lang, words := range d.Words {
		if tag, err := language.Parse(lang); err != nil || tag.String() != lang {
			return fmt.Errorf("words: %q is not a language such as en or pt-BR", lang)
		}
		if len(words) > 500 || strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("words %s: at most 500 printable characters", lang)
		}
		for _, m := range placeholder.FindAllStringSubmatch(words, -1) {
			at := d.Schema
			for _, name := range strings.Split(m[1], ".") {
				if at = at.Properties[name]; at == nil {
					return fmt.Errorf("words %s: the schema has no %s", lang, m[1])
				}
			}
		}
	}
	return nil
}

// WordsPart is a piece of a sentence. A Value comes from the app: a page sets it apart, so that no value can pass for the operator's
// words.
type WordsPart struct {
	Text  string
	Value bool
}

// words is what a person reads about one object. Values are text, whatever they look like.
func (d DetailsType) words(language string, object map[string]any) (parts []WordsPart) {
	words := d.Words[language]
	if words == "" {
		words = d.Words["en"]
	}
	from := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(words, -1) {
		if at[0] > from {
			parts = append(parts, WordsPart{Text: words[from:at[0]]})
		}
		var value any = object
		for _, name := range strings.Split(words[at[2]:at[3]], ".") {
			inner, _ := value.(map[string]any)
			value = inner[name]
		}
		parts, from = append(parts, WordsPart{valueWords(value), true}), at[1]
	}
	if from < len(words) {
		parts = append(parts, WordsPart{Text: words[from:]})
	}
	return parts
}

func valueWords(value any) string {
	switch v := value.(type) {
	case nil:
		return "–"
	case string:
		return v
	case []any:
		var list []string
		for _, one := range v {
			list = append(list, valueWords(one))
		}
		return strings.Join(list, ", ")
	}
	b, _ := json.Marshal(value) // it was read from JSON
	return string(b)
}

// DetailsTypes keeps the registered types.
type DetailsTypes struct {
	DB    *db.DB
	Audit *audit.Log
	Now   func() time.Time
}

// Create registers a type, or db.ErrConflict.
func (s DetailsTypes) Create(ctx context.Context, d DetailsType) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		_, err := s.DB.Exec(ctx, `INSERT INTO details_types (type, definition, created_at) VALUES ($1, $2, $3)`, d.Type, db.JSON(&d), db.At(s.Now()))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "details_type.create", Detail: map[string]string{"type": d.Type}})
		}
		return err
	})
}

// Update replaces schema, words and APIs of a type, or db.ErrNotFound. What was granted is held against the new schema from the next token on.
func (s DetailsTypes) Update(ctx context.Context, d DetailsType) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		err := one(s.DB.Exec(ctx, `UPDATE details_types SET definition = $2 WHERE type = $1`, d.Type, db.JSON(&d)))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "details_type.update", Detail: map[string]string{"type": d.Type}})
		}
		return err
	})
}

// Delete removes a type: nothing of it is granted from then on, at a refresh neither.
func (s DetailsTypes) Delete(ctx context.Context, name string) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		err := one(s.DB.Exec(ctx, `DELETE FROM details_types WHERE type = $1`, name))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "details_type.delete", Detail: map[string]string{"type": name}})
		}
		return err
	})
}

// Get returns a type, or db.ErrNotFound.
func (s DetailsTypes) Get(ctx context.Context, name string) (DetailsType, error) {
	return scanDetailsType(s.DB.QueryRow(ctx, `SELECT definition, created_at FROM details_types WHERE type = $1`, name))
}

// List lists the types by name, at most 100.
func (s DetailsTypes) List(ctx context.Context) ([]DetailsType, error) {
	list := []DetailsType{}
	err := s.DB.Query(ctx, func(row db.Scanner) error {
		d, err := scanDetailsType(row)
		list = append(list, d)
		return err
	}, `SELECT definition, created_at FROM details_types WHERE type > '' ORDER BY type LIMIT $1`, maxDetailTypes)
	return list, err
}

func scanDetailsType(row db.Scanner) (d DetailsType, err error) {
	var created db.Time
	err = row.Scan(db.JSON(&d), &created)
	d.CreatedAt = created.Time
	return d, err
}

// Languages lists the languages in which a type has words.
func (d DetailsType) Languages() []string { return slices.Sorted(maps.Keys(d.Words)) }
