package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
)

// ErrPanic stands for a panic in a handler; its value and stack are in the log already.
var ErrPanic = errors.New("panic in handler")

// Options of Wrap.
type Options struct {
	Log            *slog.Logger   // nil: no log
	TrustedProxies []netip.Prefix // peers whose X-Forwarded-For or Forwarded header counts
	MaxBody        int64          // bytes of a request body; 0: 64 KiB
	Secure         bool           // people reach the site by https: tell browsers to insist on it
	Now            func() time.Time
}

// Values that every answer shares. A handler replaces a header's slice and never writes into it.
var (
	noSniff = []string{"nosniff"}
	// Links in mails and /authorize URLs carry secrets, so no other site gets to see a referrer. Our own must: under
	// "no-referrer" browsers send "Origin: null" with our own forms too, like a stranger's sandboxed frame does.
	sameOrigin = []string{"same-origin"}
	hsts       = []string{"max-age=63072000"}
)

// Wrap gives h what every request needs: a request id (ours, never the client's: a forged one would corrupt the log),
// the client's address, a bounded body, security headers, an access log and the recovery from panics.
func Wrap(h http.Handler, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{
			Context:        r.Context(),
			ResponseWriter: w,
			log:            o.Log,
			address:        client(r, o.TrustedProxies),
			agent:          r.UserAgent(),
			start:          o.Now(),
		}
		id, err := uuid.NewV7()
		if err != nil { // no clock, no randomness: nothing that follows could be safe
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		e.id = id.String()
		header := w.Header()
		header["X-Request-Id"] = []string{e.id}
		header["X-Content-Type-Options"] = noSniff
		header["Referrer-Policy"] = sameOrigin
		if o.Secure {
			header["Strict-Transport-Security"] = hsts
		}
		method, path := r.Method, r.URL.Path
		r = r.WithContext((*exchangeContext)(e))
		if r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, o.MaxBody)
		}
		defer e.finish(method, path, o.Now)
		h.ServeHTTP(e, r)
	})
}

// exchange is one request and its answer in one allocation: the response writer that counts, and (as exchangeContext) the
// context that knows id, address and browser.
type exchange struct {
	context.Context // the request's own, below exchangeContext
	http.ResponseWriter
	log     *slog.Logger
	id      string
	address netip.Addr
	agent   string
	start   time.Time
	status  int
	bytes   int64
}

type exchangeContext exchange

// Value implements context.Context.
func (c *exchangeContext) Value(key any) any {
	switch key.(type) {
	case requestIDKey:
		return c.id
	case addressKey:
		return c.address
	case userAgentKey:
		return c.agent
	}
	return c.Context.Value(key)
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(status int) {
	if e.status == 0 && status >= 200 {
		e.status = status
	}
	e.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(b []byte) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	n, err := e.ResponseWriter.Write(b)
	e.bytes += int64(n)
	return n, err
}

// WriteString keeps io.WriteString from copying.
func (e *exchange) WriteString(s string) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	n, err := io.WriteString(e.ResponseWriter, s)
	e.bytes += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// finish recovers a panic that nobody nearer has answered and writes the access log. The query stays out of the log: it
// carries codes, links and hints.
func (e *exchange) finish(method, path string, now func() time.Time) {
	v := recover()
	cut := v != nil && (e.status != 0 || aborts(v))
	if v != nil && !aborts(v) {
		e.logPanic(v)
	}
	if v != nil && !cut {
		http.Error(e, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
	if e.status == 0 {
		e.status = http.StatusOK
	}
	e.access(method, path, now().Sub(e.start))
	if cut {
		panic(http.ErrAbortHandler) // net/http closes the connection, so that half an answer is not taken for a whole one
	}
}

func (e *exchange) access(method, path string, took time.Duration) {
	ctx := (*exchangeContext)(e)
	if !e.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	e.log.LogAttrs(ctx, slog.LevelInfo, "request",
		slog.String("method", clip(method, 16)),
		slog.String("path", clip(path, 256)),
		slog.Int("status", e.status),
		slog.Int64("bytes", e.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000),
	)
}

func (e *exchange) logPanic(v any) {
	if aborts(v) {
		panic(v)
	}
	e.log.ErrorContext((*exchangeContext)(e), "panic", "err", v, "stack", string(debug.Stack()))
}

// aborts tells a handler's request to drop the connection from an accident.
func aborts(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// clip bounds what a stranger can write into the log.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// LogHandler adds the request id to every record that is logged with a request's context.
type LogHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h LogHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LogHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h LogHandler) WithGroup(name string) slog.Handler { return LogHandler{h.Handler.WithGroup(name)} }
