package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// BenchmarkEndpoints shows what one request costs inside the process; `make bench` measures the whole server.
func BenchmarkEndpoints(b *testing.B) {
	b.Run("sqlite+memory", func(b *testing.B) { benchmarkEndpoints(b, newHarness(b, dbtest.OpenSQLite(b), cache.NewMemory(nil))) })
	b.Run("postgres+redis", func(b *testing.B) {
		benchmarkEndpoints(b, newHarness(b, dbtest.OpenPostgres(b), cachetest.Redis(b, nil)))
	})
}

func benchmarkEndpoints(b *testing.B, h *harness) {
	c, person := h.client(b, nil), h.person(b)
	a := person.tokens(b, c)
	post := func(path string, form url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
		r.SetBasicAuth(c.ID, c.secret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r)
		return w
	}
	run := func(name string, f func() int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if status := f(); status != http.StatusOK {
					b.Fatalf("status %d", status)
				}
			}
		})
	}
	run("client_credentials", func() int {
		return post("/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}}).Code
	})
	run("introspect", func() int { return post("/introspect", url.Values{"token": {a.str("access_token")}}).Code })
	run("userinfo", func() int { return h.userinfoAnswer(b, a.str("access_token")).status })
	run("code", func() int {
		return h.exchangeCode(b, c, person.authorize(b, h, c.params("scope", "openid")).Get("code")).status
	})
	token := a.str("refresh_token")
	run("refresh", func() int {
		r := h.refreshToken(b, c, token)
		token = r.str("refresh_token")
		return r.status
	})
}
