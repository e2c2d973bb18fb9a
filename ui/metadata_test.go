package ui

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/text/language"
)

// What the metadata say of pages is true: the place to sign out at, and the languages. All else is driven in oauth.
func TestMetadataNamesPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	get := func(path, languages string) *httptest.ResponseRecorder {
		rec, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "https://id.example.test"+path, nil)
		r.Header.Set("Accept-Language", languages)
		w.handler.ServeHTTP(rec, r)
		return rec
	}
	var m struct {
		Issuer     string   `json:"issuer"`
		EndSession string   `json:"end_session_endpoint"`
		Locales    []string `json:"ui_locales_supported"`
	}
	if err := json.Unmarshal(get("/.well-known/openid-configuration", "").Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if got := get(strings.TrimPrefix(m.EndSession, m.Issuer), "en"); got.Code >= http.StatusBadRequest {
		t.Errorf("%s: %d", m.EndSession, got.Code)
	}
	if len(m.Locales) != len(languages) {
		t.Errorf("languages %v, there are texts in %v", m.Locales, languages)
	}
	for _, name := range m.Locales {
		if page := get("/login", name).Body.String(); !strings.Contains(page, `<html lang="`+language.MustParse(name).String()+`"`) {
			t.Errorf("%s: the page begins with %.200s", name, page)
		}
	}
}
