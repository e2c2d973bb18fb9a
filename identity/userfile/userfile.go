// Package userfile reads people out of files: CSV and JSON in a form of our own, and what Keycloak, Auth0, Ory Kratos and
// Firebase export. It streams, so that a file may be longer than memory, and it decides nothing about accounts: that
// is identity.Import's part.
package userfile

import (
	"bufio"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// Formats that Open knows.
const (
	CSV      = "csv"
	JSON     = "json"
	Keycloak = "keycloak"
	Auth0    = "auth0"
	Kratos   = "kratos"
	Firebase = "firebase"
)

// Options say how to read.
type Options struct {
	Firebase   identity.FirebaseParameters // of the project, for hashes in an export of Firebase
	Hashes     *HashFile                   // Auth0: the export of password hashes; nil: none
	Map        map[string]string           // attribute of the other system → field of a profile
	DropHash   bool                        // take people without a password hash that cannot be taken over, instead of refusing them
	DropFactor bool                        // the same for second factors
}

// Record is one person in the file. Problems keep the person out; Dropped was left out as Options allow; Left names what there
// is no place for here.
type Record struct {
	identity.Arrival
	Skipped  string // why this is no person to import; empty: it is one
	Problems []identity.Problem
	Dropped  []identity.Problem
	Left     []string
}

// Reader gives one record after the other. An error other than io.EOF ends the reading: the file is broken.
type Reader struct {
	next func() (Record, error)
	row  int
}

// Next gives the next record, or io.EOF.
func (r *Reader) Next() (Record, error) {
	rec, err := r.next()
	if err != nil {
		return Record{}, err
	}
	r.row++
	rec.Row = r.row
	return rec, nil
}

// Open begins to read a file in a format.
func Open(format string, file io.Reader, o Options) (*Reader, error) {
	for _, field := range o.Map {
		if _, ok := profileFields[field]; !ok && field != phoneVerified {
			return nil, fmt.Errorf("%q is no field of a profile: choose one of %s", field, strings.Join(slices.Sorted(maps.Keys(profileFields)), ", "))
		}
	}
	in := &limited{in: file}
	buffered := bufio.NewReader(in)
	if mark, _ := buffered.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = buffered.Discard(3)
	}
	var convert func(b *builder, object map[string]any)
	within := ""
	switch format {
	case CSV:
		return openCSV(buffered, in, o)
	case JSON:
		convert = fromJSON
	case Keycloak:
		convert, within = fromKeycloak, "users"
	case Auth0:
		convert = fromAuth0
	case Kratos:
		convert = fromKratos
	case Firebase:
		convert, within = fromFirebase, "users"
	default:
		return nil, fmt.Errorf("%q is no known format", format)
	}
	objects := &objects{in: buffered, limit: in, within: within}
	return &Reader{next: func() (Record, error) {
		object, err := objects.next()
		if err != nil {
			return Record{}, err
		}
		b := &builder{o: o}
		convert(b, object)
		return b.finish(), nil
	}}, nil
}

// maxRecord bounds one person in bytes.
const maxRecord = 1 << 20

var errLong = fmt.Errorf("a record is longer than %d bytes", maxRecord)

// limited stops reading when too much was read since done was last called.
type limited struct {
	in io.Reader
	n  int
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	room := 4*maxRecord - l.n
	if room <= 0 {
		return 0, errLong
	}
	n, err := l.in.Read(p[:min(len(p), room)])
	l.n += n
	return n, err
}

func (l *limited) done() { l.n = 0 }

// objects gives the objects of an array, of JSON lines, or of the array under one key of an object.
type objects struct {
	in     *bufio.Reader
	limit  *limited
	within string

	dec   *json.Decoder
	array bool // in one
}

func (o *objects) next() (map[string]any, error) {
	if o.dec == nil {
		if err := o.begin(); err != nil {
			return nil, err
		}
	}
	if o.array && !o.dec.More() {
		if _, err := o.dec.Token(); err != nil {
			return nil, broken(err)
		}
		return nil, io.EOF
	}
	before := o.dec.InputOffset()
	var object map[string]any
	if err := o.dec.Decode(&object); err != nil {
		if !o.array && errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, broken(err)
	}
	o.limit.done()
	if o.dec.InputOffset()-before > maxRecord {
		return nil, errLong
	}
	if object == nil {
		return nil, errors.New("null stands where a person should")
	}
	return object, nil
}

// begin goes to the first object.
func (o *objects) begin() error {
	first, err := peekText(o.in)
	if err != nil {
		return err
	}
	o.dec = json.NewDecoder(o.in)
	o.dec.UseNumber()
	if first == '{' && o.within == "" {
		return nil
	}
	if first != '{' && first != '[' {
		return errors.New("the file does not begin with { or [, so it is not JSON")
	}
	if _, err := o.dec.Token(); err != nil {
		return broken(err)
	}
	for first == '{' {
		name, err := o.dec.Token()
		if err != nil {
			return broken(err)
		}
		if name == json.Delim('}') {
			return fmt.Errorf("the file has no %q", o.within)
		}
		if name == o.within {
			if t, err := o.dec.Token(); err != nil || t != json.Delim('[') {
				return fmt.Errorf("%q is no list", o.within)
			}
			break
		}
		if err := o.skip(); err != nil {
			return broken(err)
		}
	}
	o.array = true
	return nil
}

// skip reads one value and forgets it.
func (o *objects) skip() error {
	for depth := 0; ; {
		t, err := o.dec.Token()
		if err != nil {
			return err
		}
		o.limit.done()
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

func peekText(in *bufio.Reader) (byte, error) {
	for {
		c, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, errors.New("the file is empty")
		}
		if err != nil {
			return 0, err
		}
		if !strings.ContainsRune(" \t\r\n", rune(c)) {
			return c, in.UnreadByte()
		}
	}
}

func broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, errLong) {
		return errLong
	}
	return fmt.Errorf("the file is broken: %w", err)
}

// builder makes a Record of what a format says.
type builder struct {
	o Options
	Record
}

func (b *builder) finish() Record {
	slices.Sort(b.Left)
	b.Left = slices.Compact(b.Left)
	return b.Record
}

func (b *builder) wrong(field, format string, args ...any) {
	b.Problems = append(b.Problems, identity.Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (b *builder) leave(name string) { b.Left = append(b.Left, name) }

// hash takes the outcome of a conversion.
func (b *builder) hash(kept string, err error) {
	switch {
	case err == nil:
		b.PasswordHash = kept
	case b.o.DropHash:
		b.Dropped = append(b.Dropped, identity.Problem{Field: "password_hash", Reason: err.Error()})
	default:
		b.wrong("password_hash", "%v", err)
	}
}

// noFactor says why a second factor cannot be taken over. Leaving it out makes an account weaker than its person believes it to
// be, so the operator must want it.
func (b *builder) noFactor(format string, args ...any) {
	p := identity.Problem{Field: "second_factor", Reason: fmt.Sprintf(format, args...)}
	if b.o.DropFactor {
		b.Dropped = append(b.Dropped, p)
	} else {
		b.Problems = append(b.Problems, p)
	}
}

// totp takes a secret in base32.
func (b *builder) totp(secret string) {
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(strings.ReplaceAll(secret, " ", ""), "=")))
	if err != nil {
		b.noFactor("the secret is not base32")
		return
	}
	b.totpBytes(raw)
}

func (b *builder) totpBytes(raw []byte) {
	if len(raw) < 10 || len(raw) > 64 {
		b.noFactor("secret of %d bytes, not of 10 to 64", len(raw))
		return
	}
	b.TOTP = raw
}

// totpURL takes what a QR code says: otpauth://totp/…?secret=…
func (b *builder) totpURL(text string) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" {
		b.noFactor("is no otpauth://totp/ address")
		return
	}
	q := u.Query()
	for name, want := range map[string]string{"digits": "6", "period": "30", "algorithm": "SHA1"} {
		if got := q.Get(name); got != "" && got != want {
			b.noFactor("%s is %.20s, and not %s as authenticator apps have it", name, got, want)
			return
		}
	}
	b.totp(q.Get("secret"))
}

// time takes RFC 3339, a date, or milliseconds since 1970.
func (b *builder) time(field string, v any) (t time.Time) {
	text := plain(v)
	if text == "" {
		return t
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 1e10 && ms < 1e14 {
		return time.UnixMilli(ms).UTC()
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	b.wrong(field, "is not a time like 2026-01-31T15:04:05Z")
	return t
}

func (b *builder) bool(field string, v any) bool {
	text := plain(v)
	if text == "" {
		return false
	}
	yes, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		b.wrong(field, "is neither true nor false")
	}
	return yes
}

// phoneVerified is the one field of a profile that is no text.
const phoneVerified = "phone_number_verified"

// profileFields are the others by name.
var profileFields = map[string]func(p *identity.Profile) *string{
	"name":                   func(p *identity.Profile) *string { return &p.Name },
	"given_name":             func(p *identity.Profile) *string { return &p.GivenName },
	"family_name":            func(p *identity.Profile) *string { return &p.FamilyName },
	"middle_name":            func(p *identity.Profile) *string { return &p.MiddleName },
	"nickname":               func(p *identity.Profile) *string { return &p.Nickname },
	"preferred_username":     func(p *identity.Profile) *string { return &p.PreferredUsername },
	"profile":                func(p *identity.Profile) *string { return &p.ProfileURL },
	"picture":                func(p *identity.Profile) *string { return &p.Picture },
	"website":                func(p *identity.Profile) *string { return &p.Website },
	"gender":                 func(p *identity.Profile) *string { return &p.Gender },
	"birthdate":              func(p *identity.Profile) *string { return &p.Birthdate },
	"zoneinfo":               func(p *identity.Profile) *string { return &p.Zoneinfo },
	"locale":                 func(p *identity.Profile) *string { return &p.Locale },
	"phone_number":           func(p *identity.Profile) *string { return &p.PhoneNumber },
	"address.formatted":      func(p *identity.Profile) *string { return &p.Address.Formatted },
	"address.street_address": func(p *identity.Profile) *string { return &p.Address.StreetAddress },
	"address.locality":       func(p *identity.Profile) *string { return &p.Address.Locality },
	"address.region":         func(p *identity.Profile) *string { return &p.Address.Region },
	"address.postal_code":    func(p *identity.Profile) *string { return &p.Address.PostalCode },
	"address.country":        func(p *identity.Profile) *string { return &p.Address.Country },
}

// set puts a claim into the profile.
func (b *builder) set(field string, v any) {
	if text := plain(v); text != "" {
		*profileFields[field](&b.Profile) = text
	}
}

// attribute takes a value that the other system knows under a name: into the field that the operator or the format (usual) maps it
// to, or it is left. Objects are taken apart (a.b), lists of one are what is in them.
func (b *builder) attribute(name string, v any, usual map[string]string) {
	switch v := v.(type) {
	case nil:
		return
	case map[string]any:
		for inner, value := range v {
			b.attribute(name+"."+inner, value, usual)
		}
		return
	case []any:
		if len(v) == 1 {
			b.attribute(name, v[0], usual)
		} else if len(v) > 1 {
			b.leave(name)
		}
		return
	}
	text := plain(v)
	if text == "" {
		return
	}
	field, ok := b.o.Map[name]
	if !ok {
		field, ok = usual[name]
	}
	switch {
	case field == phoneVerified:
		b.Profile.PhoneNumberVerified = b.bool(name, text)
	case ok:
		b.set(field, text)
	default:
		b.leave(name)
	}
}

// plain gives a scalar as text; "" for anything else.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// take removes a value from an object and gives it.
func take(object map[string]any, name string) any {
	v := object[name]
	delete(object, name)
	return v
}

// rest hands what was not taken to attribute.
func (b *builder) rest(prefix string, object map[string]any, usual map[string]string) {
	for name, v := range object {
		b.attribute(prefix+name, v, usual)
	}
}
