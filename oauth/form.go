package oauth

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ory/fosite"
)

// maxQuery bounds the parameters of an authorization request in bytes.
const maxQuery = 32 << 10

// bodyForm reads the parameters of an endpoint that clients call: the body and nothing else, form-encoded (RFC 6749
// §3.2). What stands in the query would end up in logs.
func bodyForm(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, fosite.ErrInvalidRequest.WithHint("Send the parameters in the request body, not in the query.")
	}
	return postedForm(r)
}

func postedForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fosite.ErrInvalidRequest.WithHint("Send the body as application/x-www-form-urlencoded.")
	}
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, fosite.ErrInvalidRequest.WithHint("The request body is too large.")
		}
		return nil, fosite.ErrInvalidRequest.WithHint("The request body is not validly form-encoded.")
	}
	return r.PostForm, checkForm(r.PostForm)
}

// queryForm reads the parameters of a GET.
func queryForm(r *http.Request) (url.Values, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, fosite.ErrInvalidRequest.WithHint("The request is too long.")
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fosite.ErrInvalidRequest.WithHint("The query is not validly encoded.")
	}
	return form, checkForm(form)
}

// listParameters may stand several times: all of their values are read (RFC 8707 §2, RFC 8693 §2.1).
var listParameters = []string{"resource", "audience"}

// checkForm refuses what RFC 6749 §3.1 forbids: a parameter that stands twice. Two readers of one request must never be
// able to see different values (parameter pollution).
func checkForm(form url.Values) error {
	for name, values := range form {
		if len(values) > 1 && !slices.Contains(listParameters, name) {
			return fosite.ErrInvalidRequest.WithHint("A parameter stands more than once.")
		}
		if !validText(name) || slices.ContainsFunc(values, func(v string) bool { return !validText(v) }) {
			return fosite.ErrInvalidRequest.WithHint("A parameter is not valid UTF-8 text.")
		}
		if len(values) == 1 && values[0] == "" {
			delete(form, name) // RFC 6749 §3.1: sent without a value means left out
		}
	}
	return nil
}

func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
