package ui

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// pageError is an error that knows its page.
type pageError struct {
	status int
	key    string // locale key of the explanation; key+".do" says what to do next
	err    error  // for the log; nil: nothing worth a line
	next   string // page to go on from; its button says key+".next"
	app    *app   // where to start again, in place of next; nil: not known
}

func (e *pageError) Error() string {
	if e.err == nil {
		return e.key
	}
	return fmt.Sprintf("%s: %v", e.key, e.err)
}

func (e *pageError) Unwrap() error { return e.err }

var (
	errUnknownPage = &pageError{status: http.StatusNotFound, key: "error.not_found"}
	errMalformed   = &pageError{status: http.StatusBadRequest, key: "error.malformed"}
	// errOtherPerson is a form of somebody else than is signed in now.
	errOtherPerson = &pageError{status: http.StatusConflict, key: "error.other_person", next: "/account"}
	// errExpired is an interaction that is over: used, given up or too old.
	errExpired = &pageError{status: http.StatusBadRequest, key: "error.expired", next: "/account"}
)

// retryAfter is what a server short of breath asks for, in seconds.
const retryAfter = 5

type errorContent struct {
	Heading, Text, Advice string
	Next, NextText        string
	Reference             string
	ClientName, ClientURI string
}

// Error writes the page for err. What went wrong goes to the log once and never to the page.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, err error) {
	e := explain(err)
	var limit *identity.LimitError
	switch {
	case errors.As(err, &limit):
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(limit.RetryAfter.Seconds())))))
	case e.status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	switch {
	case e.status >= http.StatusInternalServerError && !errors.Is(err, web.ErrPanic): // a panic is in the log already
		p.Log.ErrorContext(r.Context(), "page failed", "path", r.URL.Path, "status", e.status, "err", err)
	case e.err != nil:
		p.Log.InfoContext(r.Context(), "page refused", "path", r.URL.Path, "status", e.status, "err", err)
	}
	r = p.listen(r)
	if e.status >= http.StatusInternalServerError {
		learn(r.Context(), func(a *audience) { a.alone = true })
	}
	l := p.locale(r.Context())
	content := errorContent{Heading: l.text(e.key), Text: l.text(e.key + ".text"), Advice: l.text(e.key + ".do")}
	if e.app != nil {
		content.ClientName, content.ClientURI = e.app.Name, e.app.SiteURL
	}
	if e.next != "" && content.ClientURI == "" {
		content.Next, content.NextText = e.next, l.text(e.key+".next")
	}
	p.errorPage(w, r, e.status, content)
}

// OAuthError writes the page for a request of an app that cannot be answered by a redirect to it.
func (p *Pages) OAuthError(w http.ResponseWriter, r *http.Request, e oauth.ErrorPage) {
	if e.Key == "error.oauth.interaction_over" {
		p.Error(w, r, expired(&oauth.InteractionOver{Client: oauth.Client{Name: e.ClientName, ClientURI: e.ClientURI}}))
		return
	}
	r = p.listen(r)
	learn(r.Context(), func(a *audience) { a.app = uiLocales(strings.Fields(r.URL.Query().Get("ui_locales"))) })
	switch e.Status {
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		p.Error(w, r, &pageError{status: e.Status, key: explainStatus(e.Status)})
		return
	}
	l := p.locale(r.Context())
	content := errorContent{
		Heading: l.text("error.app"), Text: l.text("error.app.text"), Advice: l.text("error.app.do"),
		ClientName: e.ClientName, ClientURI: webURL(e.ClientURI),
	}
	if _, known := l.texts[e.Key]; known {
		content.Text = l.text(e.Key)
	}
	p.errorPage(w, r, e.Status, content)
}

func (p *Pages) errorPage(w http.ResponseWriter, r *http.Request, status int, content errorContent) {
	content.Reference = web.RequestID(r.Context())
	if err := p.render(w, r, view{Name: "error", Status: status, Title: content.Heading, Content: content}); err != nil {
		p.Log.ErrorContext(r.Context(), "error page failed", "err", err)
		http.Error(w, http.StatusText(status), status)
	}
}

// explain finds the page for an error.
func explain(err error) *pageError {
	var page *pageError
	var limit *identity.LimitError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &pageError{status: http.StatusBadRequest, key: "error.too_large"}
	case errors.As(err, &page):
		return page
	case errors.As(err, &limit):
		return &pageError{status: http.StatusTooManyRequests, key: "error.limit"}
	case errors.Is(err, identity.ErrBusy), errors.Is(err, db.ErrUnavailable), errors.Is(err, cache.ErrUnavailable):
		return &pageError{status: http.StatusServiceUnavailable, key: explainStatus(http.StatusServiceUnavailable), err: err}
	case errors.Is(err, db.ErrNotFound):
		return errUnknownPage
	}
	return &pageError{status: http.StatusInternalServerError, key: explainStatus(http.StatusInternalServerError), err: err}
}

func explainStatus(status int) string {
	if status == http.StatusServiceUnavailable {
		return "error.unavailable"
	}
	return "error.internal"
}
