package userfile

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// ownNames maps each field of a profile to itself.
var ownNames = func() map[string]string {
	names := map[string]string{phoneVerified: phoneVerified}
	for field := range profileFields {
		names[field] = field
	}
	return names
}()

// fromJSON reads our own form: the names of docs/import.md.
func fromJSON(b *builder, object map[string]any) {
	b.ExternalID = plain(take(object, "id"))
	b.Email = plain(take(object, "email"))
	b.EmailVerified = b.bool("email_verified", take(object, "email_verified"))
	if text := plain(take(object, "password_hash")); text != "" {
		b.hash(identity.ReadHash(text))
	}
	b.MustChangePassword = b.bool("must_change_password", take(object, "must_change_password"))
	b.Disabled = b.bool("disabled", take(object, "disabled"))
	b.CreatedAt = b.time("created_at", take(object, "created_at"))
	b.PasswordChangedAt = b.time("password_changed_at", take(object, "password_changed_at"))
	if text := plain(take(object, "totp_secret")); text != "" {
		b.totp(text)
	}
	b.rest("", object, ownNames)
}

// openCSV reads a table whose first line names the columns like the fields of fromJSON.
func openCSV(in *bufio.Reader, limit *limited, o Options) (*Reader, error) {
	table := csv.NewReader(in)
	table.ReuseRecord = true
	header, err := table.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, broken(err)
	}
	names := make([]string, len(header))
	seen := map[string]bool{}
	for n, name := range header {
		names[n] = strings.TrimSpace(name)
		if names[n] == "" || seen[names[n]] {
			return nil, fmt.Errorf("column %d has no name, or that of another: the first line must name the columns", n+1)
		}
		seen[names[n]] = true
	}
	if !seen["email"] {
		return nil, errors.New("no column is named email: the first line must name the columns")
	}
	object := map[string]any{}
	return &Reader{next: func() (Record, error) {
		fields, err := table.Read()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return Record{}, io.EOF
			}
			return Record{}, broken(err)
		}
		limit.done()
		maps.DeleteFunc(object, func(string, any) bool { return true })
		size := 0
		for n, text := range fields {
			object[names[n]] = strings.Clone(text)
			size += len(text)
		}
		if size > maxRecord {
			return Record{}, errLong
		}
		b := &builder{o: o}
		fromJSON(b, object)
		return b.finish(), nil
	}}, nil
}
