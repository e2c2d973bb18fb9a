package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheckSessionFrame(t *testing.T) {
	t.Parallel()
	off, on := newWorld(t), newWorld(t, func(c *Config) { c.Site = c.Site.Watching() })
	get := func(w *world, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "https://id.example.test"+path, nil)
		w.handler.ServeHTTP(rec, r)
		return rec
	}
	if got := get(off, "/check-session"); got.Code != http.StatusNotFound || strings.Contains(get(off, "/login").Header().Get("Content-Security-Policy"), "frame-ancestors *") {
		t.Errorf("off: %d", got.Code)
	}
	page := get(on, "/check-session")
	if page.Code != http.StatusOK || page.Header().Get("Content-Security-Policy") != checkSessionPolicy || len(page.Result().Cookies()) != 0 {
		t.Errorf("got %d %v", page.Code, page.Header())
	}
	_, rest, _ := strings.Cut(page.Body.String(), `<script src="`)
	script, rest, _ := strings.Cut(rest, `"`)
	if !strings.Contains(rest, `data-cookie="__Host-gatehouse-state"`) {
		t.Errorf("the page is %s", page.Body)
	}
	if got := get(on, script); got.Code != http.StatusOK || !strings.HasPrefix(got.Header().Get("Content-Type"), "text/javascript") {
		t.Errorf("%s: %d %v", script, got.Code, got.Header())
	}
	// No other page may be framed (clickjacking).
	for _, path := range []string{"/login", "/signed-out", "/forgot"} {
		if got := get(on, path).Header().Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") {
			t.Errorf("%s: %q", path, got)
		}
	}
}
