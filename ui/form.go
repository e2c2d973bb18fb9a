package ui

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// form is what a browser sent, each field once.
type form struct{ values url.Values }

// value gives a field as it was typed, "" if it was not sent.
func (f form) value(field string) string { return f.values.Get(field) }

// trimmed gives a field without the space around it that pasting brings along.
func (f form) trimmed(field string) string { return strings.TrimSpace(f.values.Get(field)) }

// readForm reads the body of a POST. A field sent twice, malformed UTF-8 or a NUL, and any other encoding are refused, so
// that no two readers can take one request for two different things (parameter pollution).
func readForm(r *http.Request) (form, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return form{}, errMalformed
	}
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return form{}, err
		}
		return form{}, errMalformed
	}
	return checked(r.PostForm)
}

// readQuery reads the query by the same rules.
func readQuery(r *http.Request) (form, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return form{}, errMalformed
	}
	return checked(values)
}

func checked(values url.Values) (form, error) {
	for name, v := range values {
		if len(v) != 1 || !utf8.ValidString(name) || !utf8.ValidString(v[0]) || strings.ContainsRune(v[0], 0) {
			return form{}, errMalformed
		}
	}
	return form{values}, nil
}
