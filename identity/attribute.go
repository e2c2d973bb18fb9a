package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Types of attributes.
const (
	TypeString  = "string"
	TypeNumber  = "number"
	TypeBoolean = "boolean"
	TypeDate    = "date" // YYYY-MM-DD
	TypeEnum    = "enum" // one of the options
	TypeList    = "list" // texts, of the options if there are any
)

// Who may see or edit an attribute on pages. What is held is in a person's file of data either way.
const (
	ForAdmin  = "admin"  // operators only
	ForPerson = "person" // the person as well
)

// Attribute is something that is known of people beside the standard profile. Values are sealed under each person's own key.
type Attribute struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	Label     string           `json:"label"` // for people; as given, in one language
	Type      string           `json:"type"`
	Options   []string         `json:"options,omitempty"`
	Pattern   string           `json:"pattern,omitempty"` // regular expression (RE2) that the whole of a text must match
	Required  bool             `json:"required"`          // cannot be emptied, and is asked for if the person can give it
	View      string           `json:"view"`
	Edit      string           `json:"edit"`
	Claims    []AttributeClaim `json:"claims"`
	CreatedAt time.Time        `json:"created_at"`
	UpdatedAt time.Time        `json:"updated_at"`

	matches *regexp.Regexp
}

// AttributeClaim gives an attribute to apps as a claim of userinfo, and of tokens if it says so.
type AttributeClaim struct {
	Claim       string `json:"claim"`
	Scope       string `json:"scope"`                  // that the person must have allowed
	ClientID    string `json:"client_id,omitempty"`    // for this app only; empty: for every app with the scope
	IDToken     bool   `json:"id_token,omitempty"`     // in ID tokens, too
	AccessToken bool   `json:"access_token,omitempty"` // in access tokens and what introspection says of them, too: APIs see it
}

// ClaimPlace is where a claim stands.
type ClaimPlace int

// The places of claims.
const (
	InUserinfo ClaimPlace = iota
	InIDToken
	InAccessToken
)

func (c AttributeClaim) in(place ClaimPlace) bool {
	switch place {
	case InIDToken:
		return c.IDToken
	case InAccessToken:
		return c.AccessToken
	}
	return true
}

// covered reports whether a claim is for an app under some scopes.
func (c AttributeClaim) covered(client string, scopes []string) bool {
	return slices.Contains(scopes, c.Scope) && (c.ClientID == "" || c.ClientID == client) && !ReservedClaim(c.Claim)
}

const (
	maxAttributes = 100
	maxOptions    = 200
	maxListValues = 20
	maxPattern    = 200
)

var (
	attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,49}$`)
	claimName     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:/~-]{0,199}$`)
	scopeName     = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,128}$`)
)

// reservedClaims mean something that no attribute may say: who the person is, how they signed in, what they may do, what is proven
// of them. Apps rely on them (claim injection). Case does not matter: some JSON readers overlook it.
var reservedClaims = strings.Fields(`iss sub aud exp nbf iat jti azp nonce auth_time acr amr at_hash c_hash s_hash sid sub_jwk cnf act may_act
	scope scp client_id gid held src groups roles role permissions entitlements authorization_details events toe txn userinfo active token_type username
	name given_name family_name middle_name nickname preferred_username profile picture website email email_verified gender birthdate
	zoneinfo locale phone_number phone_number_verified address updated_at _claim_names _claim_sources vot vtm uid upn oid tid admin is_admin`)

// ReservedClaim reports whether an attribute cannot feed a claim.
func ReservedClaim(name string) bool { return slices.Contains(reservedClaims, strings.ToLower(name)) }

// check brings the definition into its normal form.
func (a *Attribute) check() error {
	wrong := FieldErrors{}
	if !attributeName.MatchString(a.Name) {
		wrong["name"] = KeyCharacters
	}
	var key string
	if a.Label, key = checkText(a.Label, maxGroupName, false); key != "" {
		wrong["label"] = key
	} else if a.Label == "" {
		a.Label = a.Name
	}
	if !slices.Contains([]string{TypeString, TypeNumber, TypeBoolean, TypeDate, TypeEnum, TypeList}, a.Type) {
		wrong["type"] = KeyOption
	}
	if a.View == "" {
		a.View = ForAdmin
	}
	if a.Edit == "" {
		a.Edit = ForAdmin
	}
	if a.View != ForAdmin && a.View != ForPerson {
		wrong["view"] = KeyOption
	}
	if a.Edit != ForAdmin && a.Edit != ForPerson || a.Edit == ForPerson && a.View != ForPerson { // nobody edits what they cannot see
		wrong["edit"] = KeyOption
	}
	for _, o := range a.Options {
		if text, key := checkText(o, maxGroupName, false); key != "" || text == "" || text != o {
			wrong["option"] = KeyCharacters
		}
	}
	switch has := len(a.Options) > 0; {
	case has && a.Type != TypeEnum && a.Type != TypeList, !has && a.Type == TypeEnum, len(a.Options) > maxOptions:
		wrong["option"] = KeyOption
	}
	if err := a.compile(); err != nil || len(a.Pattern) > maxPattern || a.Pattern != "" && a.Type != TypeString && a.Type != TypeList {
		wrong["pattern"] = KeyPattern
	}
	return wrong.err()
}

func (a *Attribute) compile() (err error) {
	if a.Pattern != "" {
		a.matches, err = regexp.Compile(`^(?:` + a.Pattern + `)$`)
	}
	return err
}

// Parse reads a value as it is typed, a list with one value in a line, and gives it as it stands in JSON; nil is "none".
func (a *Attribute) Parse(typed string) (value any, key string) {
	text, key := checkText(typed, maxText, a.Type == TypeList)
	if key != "" {
		return nil, key
	}
	if text == "" {
		if a.Required {
			return nil, KeyRequired
		}
		return nil, ""
	}
	switch a.Type {
	case TypeNumber:
		return parseNumber(text)
	case TypeBoolean:
		if text != "true" && text != "false" {
			return nil, KeyOption
		}
		return text == "true", ""
	case TypeDate:
		if _, err := time.Parse(time.DateOnly, text); err != nil {
			return nil, KeyBirthdateInvalid
		}
		return text, ""
	case TypeList:
		return a.parseList(text)
	}
	return text, a.allows(text)
}

// allows holds one text against options and pattern.
func (a *Attribute) allows(text string) (key string) {
	switch {
	case len(a.Options) > 0 && !slices.Contains(a.Options, text):
		return KeyOption
	case a.matches != nil && !a.matches.MatchString(text):
		return KeyPattern
	}
	return ""
}

func (a *Attribute) parseList(text string) (any, string) {
	list := []string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || slices.Contains(list, line) {
			continue
		}
		if key := a.allows(line); key != "" {
			return nil, key
		}
		list = append(list, line)
	}
	if len(list) > maxListValues {
		return nil, KeyTooLong
	}
	return list, ""
}

func parseNumber(text string) (any, string) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= -1<<53 && n <= 1<<53 { // what every JSON reader keeps exactly
		return n, ""
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(text, "xXpP_") {
		return nil, KeyNumber
	}
	return f, ""
}

// attributeSchema is the definitions as this process knows them. They change seldom, and every userinfo reads them.
type attributeSchema struct {
	mu      sync.RWMutex
	version int64
	known   bool
	list    []Attribute
}

// PollAttributes forgets the definitions in memory if another process has changed one since.
func (d *Directory) PollAttributes(ctx context.Context) error {
	version, err := d.db.Version(ctx, "attributes")
	if err != nil {
		return fmt.Errorf("poll attributes: %w", err)
	}
	d.schema.mu.Lock()
	defer d.schema.mu.Unlock()
	if version != d.schema.version {
		d.schema.version, d.schema.known = version, false
	}
	return nil
}

// Attributes lists the definitions by name, from memory. Nobody may change what it returns.
func (d *Directory) Attributes(ctx context.Context) ([]Attribute, error) {
	d.schema.mu.RLock()
	list, known, version := d.schema.list, d.schema.known, d.schema.version
	d.schema.mu.RUnlock()
	if known {
		return list, nil
	}
	list = []Attribute{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var a Attribute
		var id, name string
		var created, updated db.Time
		if err := row.Scan(&id, &name, db.JSON(&a), &created, &updated); err != nil {
			return err
		}
		a.ID, a.Name, a.CreatedAt, a.UpdatedAt = id, name, created.Time, updated.Time
		list = append(list, a)
		return list[len(list)-1].compile()
	}, `SELECT id, name, schema, created_at, updated_at FROM attributes ORDER BY name LIMIT $1`, maxAttributes)
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	d.schema.mu.Lock()
	defer d.schema.mu.Unlock()
	if version == d.schema.version { // else a change came in between
		d.schema.list, d.schema.known = list, true
	}
	return list, nil
}

// Attribute returns a definition by its name, or ErrNotFound.
func (d *Directory) Attribute(ctx context.Context, name string) (Attribute, error) {
	list, err := d.Attributes(ctx)
	for _, a := range list {
		if a.Name == name {
			return a, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("read attribute: %w", ErrNotFound)
	}
	return Attribute{}, err
}

// alterSchema is alter for a definition: every process reads them anew. Changes wait for each other.
func (d *Directory) alterSchema(ctx context.Context, what string, e audit.Event, f func(ctx context.Context) error) error {
	err := d.alter(ctx, what, e, func(ctx context.Context) error {
		if err := d.db.Changed(ctx, "attributes"); err != nil {
			return err
		}
		return f(ctx)
	})
	if err != nil {
		return err
	}
	return d.PollAttributes(ctx)
}

// CreateAttribute adds a definition. Its type and name are for good; who wants another one makes another attribute.
func (d *Directory) CreateAttribute(ctx context.Context, actor string, a Attribute) (Attribute, error) {
	if err := a.check(); err != nil {
		return Attribute{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Attribute{}, err
	}
	a.ID, a.Claims = id.String(), []AttributeClaim{}
	a.CreatedAt = d.now().UTC().Truncate(time.Microsecond)
	a.UpdatedAt = a.CreatedAt
	e := audit.Event{Action: "attribute.create", Actor: actor, Detail: map[string]string{"attribute_id": a.ID}}
	return a, d.alterSchema(ctx, "create attribute", e, func(ctx context.Context) error {
		var n int
		if err := d.db.QueryRow(ctx, `SELECT COUNT(*) FROM attributes`).Scan(&n); err != nil {
			return err
		}
		if n >= maxAttributes {
			return FieldErrors{"name": KeyTooLong}
		}
		_, err := d.db.Exec(ctx, `INSERT INTO attributes (id, name, schema, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`, a.ID, a.Name, db.JSON(&a), db.At(a.CreatedAt))
		return err
	})
}

// DeleteAttribute removes a definition with everybody's values.
func (d *Directory) DeleteAttribute(ctx context.Context, actor, id string) error {
	e := audit.Event{Action: "attribute.delete", Actor: actor, Detail: map[string]string{"attribute_id": id}}
	return d.alterSchema(ctx, "delete attribute", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `DELETE FROM attributes WHERE id = $1`, id))
	})
}

// MapAttribute gives an attribute to apps as a claim. A claim is never a reserved one, and never fed by two attributes.
func (d *Directory) MapAttribute(ctx context.Context, actor, id string, c AttributeClaim) error {
	wrong := FieldErrors{}
	if !claimName.MatchString(c.Claim) {
		wrong["claim"] = KeyCharacters
	} else if ReservedClaim(c.Claim) {
		wrong["claim"] = KeyReserved
	}
	if !scopeName.MatchString(c.Scope) {
		wrong["scope"] = KeyCharacters
	} else if c.Scope == "openid" || c.Scope == "offline_access" { // they tell the person nothing of it
		wrong["scope"] = KeyReserved
	}
	if c.ClientID != "" && !clientID.MatchString(c.ClientID) {
		wrong["client"] = KeyCharacters
	}
	if err := wrong.err(); err != nil {
		return err
	}
	e := audit.Event{Action: "attribute.map", Actor: actor, ClientID: c.ClientID, Detail: map[string]string{"attribute_id": id, "claim": c.Claim, "scope": c.Scope}}
	return d.changeClaims(ctx, "map attribute", id, e, func(all []Attribute, a *Attribute) error {
		for _, other := range all {
			if other.ID != id && slices.ContainsFunc(other.Claims, func(o AttributeClaim) bool { return strings.EqualFold(o.Claim, c.Claim) }) {
				return ErrNameTaken
			}
		}
		same := func(o AttributeClaim) bool {
			return o.Claim == c.Claim && o.Scope == c.Scope && o.ClientID == c.ClientID
		}
		a.Claims = append(slices.DeleteFunc(a.Claims, same), c) // once more, perhaps for other tokens
		if len(a.Claims) > maxListValues {
			return FieldErrors{"claim": KeyTooLong}
		}
		return nil
	})
}

// UnmapAttribute takes a claim away from an attribute, for one app or, with an empty clientID, for all of its mappings.
func (d *Directory) UnmapAttribute(ctx context.Context, actor, id, claim, clientID string) error {
	e := audit.Event{Action: "attribute.unmap", Actor: actor, ClientID: clientID, Detail: map[string]string{"attribute_id": id, "claim": claim}}
	return d.changeClaims(ctx, "unmap attribute", id, e, func(_ []Attribute, a *Attribute) error {
		before := len(a.Claims)
		a.Claims = slices.DeleteFunc(a.Claims, func(c AttributeClaim) bool { return c.Claim == claim && (clientID == "" || c.ClientID == clientID) })
		if len(a.Claims) == before {
			return ErrNotFound
		}
		return nil
	})
}

func (d *Directory) changeClaims(ctx context.Context, what, id string, e audit.Event, f func(all []Attribute, a *Attribute) error) error {
	return d.alterSchema(ctx, what, e, func(ctx context.Context) error {
		var all []Attribute
		at := -1
		if err := d.db.Query(ctx, func(row db.Scanner) error {
			var a Attribute
			var own string
			err := row.Scan(&own, db.JSON(&a))
			a.ID = own
			if own == id {
				at = len(all)
			}
			all = append(all, a)
			return err
		}, `SELECT id, schema FROM attributes`); err != nil {
			return err
		}
		if at < 0 {
			return ErrNotFound
		}
		a := all[at]
		if err := f(all, &a); err != nil {
			return err
		}
		return one(d.db.Exec(ctx, `UPDATE attributes SET schema = $2, updated_at = $3 WHERE id = $1`, id, db.JSON(&a), db.At(d.now())))
	})
}

func attributePurpose(userID, attributeID string) string {
	return "attribute:" + userID + ":" + attributeID
}

// SetAttributes sets values of a person as they were typed, by name; an empty one removes. byPerson is true when the person
// does it: what they may not edit is then unknown. All of them are set, or none and FieldErrors tell why.
func (d *Directory) SetAttributes(ctx context.Context, actor, userID string, byPerson bool, typed map[string]string) error {
	wrong := FieldErrors{}
	values := map[string]any{} // by id
	for name, text := range typed {
		a, err := d.Attribute(ctx, name)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && byPerson && a.Edit != ForPerson:
			return fmt.Errorf("set attribute %q: %w", name, ErrNotFound)
		case err != nil:
			return err
		}
		v, key := a.Parse(text)
		if key != "" {
			wrong[name] = key
		}
		values[a.ID] = v
	}
	if err := wrong.err(); err != nil {
		return err
	}
	return d.alter(ctx, "set attributes", audit.Event{Action: "attribute.set", Actor: actor, UserID: userID}, func(ctx context.Context) error {
		wrapped, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, wrapped)
		if err != nil {
			return err
		}
		for id, v := range values {
			if v == nil {
				_, err = d.db.Exec(ctx, `DELETE FROM user_attributes WHERE user_id = $1 AND attribute_id = $2`, userID, id)
			} else {
				var plain []byte
				if plain, err = json.Marshal(v); err != nil {
					return err
				}
				_, err = d.db.Exec(ctx, `INSERT INTO user_attributes (user_id, attribute_id, sealed, updated_at) VALUES ($1, $2, $3, $4)
					ON CONFLICT (user_id, attribute_id) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`,
					userID, id, own.Seal(plain, attributePurpose(userID, id)), db.At(d.now()))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// HeldAttribute is what is known of a person under an attribute.
type HeldAttribute struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Value     json.RawMessage `json:"value"`
	UpdatedAt time.Time       `json:"updated_at"`
}

// Typed gives the value as Parse reads it.
func (h HeldAttribute) Typed() string {
	var text string
	var list []string
	switch {
	case json.Unmarshal(h.Value, &text) == nil:
		return text
	case json.Unmarshal(h.Value, &list) == nil:
		return strings.Join(list, "\n")
	}
	return string(h.Value) // a number, true or false
}

// AttributesOf gives all that is known of a person beside the profile, in one statement.
func (d *Directory) AttributesOf(ctx context.Context, userID string) ([]HeldAttribute, error) {
	list := []HeldAttribute{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var h HeldAttribute
		var sealed, wrapped []byte
		var updated db.Time
		if err := row.Scan(&h.ID, &h.Name, &sealed, &updated, &wrapped); err != nil {
			return err
		}
		own, err := d.ownSealer(userID, wrapped)
		if err != nil {
			return err
		}
		h.UpdatedAt = updated.Time
		h.Value, err = own.Open(sealed, attributePurpose(userID, h.ID))
		list = append(list, h)
		return err
	}, `SELECT a.id, a.name, ua.sealed, ua.updated_at, k.wrapped FROM user_attributes ua JOIN attributes a ON a.id = ua.attribute_id
		JOIN data_keys k ON k.user_id = ua.user_id WHERE ua.user_id = $1 ORDER BY a.name`, userID)
	if err != nil {
		return nil, fmt.Errorf("read attributes of person: %w", err)
	}
	return list, nil
}

// MissingAttributes lists the required attributes that a person has no value of and can give themselves. What only operators set is not
// among them: nobody is kept out by what others have not done. It costs a statement only if there is such an attribute.
func (d *Directory) MissingAttributes(ctx context.Context, userID string) ([]Attribute, error) {
	all, err := d.Attributes(ctx)
	if err != nil {
		return nil, err
	}
	var missing []Attribute
	for _, a := range all {
		if a.Required && a.Edit == ForPerson {
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	var given []string
	if err := d.db.Query(ctx, scanID(&given), `SELECT attribute_id FROM user_attributes WHERE user_id = $1`, userID); err != nil {
		return nil, fmt.Errorf("read attributes of person: %w", err)
	}
	return slices.DeleteFunc(missing, func(a Attribute) bool { return slices.Contains(given, a.ID) }), nil
}

// AttributesFor lists the attributes of which an app gets claims under some scopes, so that a person can be told.
func (d *Directory) AttributesFor(ctx context.Context, client string, scopes []string) ([]Attribute, error) {
	all, err := d.Attributes(ctx)
	var list []Attribute
	for _, a := range all {
		if slices.ContainsFunc(a.Claims, func(c AttributeClaim) bool { return c.covered(client, scopes) }) {
			list = append(list, a)
		}
	}
	return list, err
}

// AttributeClaims gives the claims that an app gets of a person's attributes under some scopes in one place. It costs a statement only if
// there are any for it.
func (d *Directory) AttributeClaims(ctx context.Context, userID, client string, scopes []string, place ClaimPlace) (map[string]json.RawMessage, error) {
	all, err := d.Attributes(ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string][]string{} // claims by the attribute's id
	for _, a := range all {
		for _, c := range a.Claims {
			if c.covered(client, scopes) && c.in(place) {
				wanted[a.ID] = append(wanted[a.ID], c.Claim)
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	held, err := d.AttributesOf(ctx, userID)
	claims := map[string]json.RawMessage{}
	for _, h := range held {
		for _, name := range wanted[h.ID] {
			claims[name] = h.Value
		}
	}
	return claims, err
}
