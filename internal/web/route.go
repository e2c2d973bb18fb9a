package web

import (
	"net/http"
	"slices"
	"strings"
)

// Route is one row of a package's route table.
type Route struct {
	Pattern string // "POST /login", without the issuer's path
	Handler func(w http.ResponseWriter, r *http.Request) error
}

// Mount registers routes under the issuer's path. What a handler returns, and a panic, goes to onError, the one place
// that writes errors for this audience. A known path with another method answers 405, also beside a catch-all. A
// well-known path moves to the root with the issuer's path behind it as well (RFC 8414 §3.1), because clients
// differ in where they look.
func Mount(mux *http.ServeMux, site Site, routes []Route, onError func(w http.ResponseWriter, r *http.Request, err error)) {
	methods := map[string][]string{} // of each path; an empty one stands for all
	mount := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(strings.TrimLeft(method+" "+path, " "), h)
		methods[path] = append(methods[path], method)
		if method == http.MethodGet {
			methods[path] = append(methods[path], http.MethodHead)
		}
	}
	for _, route := range routes {
		method, path, ok := strings.Cut(route.Pattern, " ")
		if !ok {
			method, path = "", route.Pattern
		}
		h := adapt(route.Handler, onError)
		mount(method, site.base+path, h)
		if site.base != "" && strings.HasPrefix(path, "/.well-known/") {
			mount(method, path+site.base, h)
		}
	}
	for path, allowed := range methods {
		if !slices.Contains(allowed, "") {
			mux.Handle(path, notAllowed(strings.Join(allowed, ", ")))
		}
	}
}

func notAllowed(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	}
}

func adapt(h func(http.ResponseWriter, *http.Request) error, onError func(http.ResponseWriter, *http.Request, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			// Once the answer has begun no error fits into it: the panic goes on to Wrap, which cuts the connection.
			e, wrapped := w.(*exchange)
			if !wrapped || e.status != 0 {
				return
			}
			if v := recover(); v != nil {
				e.logPanic(v)
				onError(w, r, ErrPanic)
			}
		}()
		if err := h(w, r); err != nil {
			onError(w, r, err)
		}
	}
}
