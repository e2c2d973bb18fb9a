package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The driver's own HTTP must be right, or it would measure errors.
func TestConnReadsAnswers(t *testing.T) {
	t.Parallel()
	for name, lean := range map[string]bool{"lean": true, "net/http": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testConn(t, lean)
		})
	}
}

func testConn(t *testing.T, lean bool) {
	t.Helper()
	long := strings.Repeat("x", 100_000)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sized", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"access_token":"abc"}`)) })
	mux.HandleFunc("GET /chunked", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(long))
		w.(http.Flusher).Flush()
		_, _ = w.Write([]byte(long))
	})
	mux.HandleFunc("POST /redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/there?code="+r.PostFormValue("v"), http.StatusSeeOther)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	c, err := dial(s.Listener.Addr().String(), lean)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()

	for range 3 { // on one connection: nothing of an answer may be left over for the next
		if err := c.get("/sized", ""); err != nil {
			t.Fatal(err)
		}
		if got, err := c.field("access_token"); err != nil || got != "abc" {
			t.Errorf("access_token: got %q, %v, want abc", got, err)
		}
		if err := c.get("/chunked", ""); err != nil {
			t.Fatal(err)
		}
		if got, want := len(c.body), 2*len(long); got != want {
			t.Errorf("chunked body: got %d bytes, want %d", got, want)
		}
		if err := c.post("/redirect", "X-Extra: 1\r\n", "v=42"); err != nil {
			t.Fatal(err)
		}
		if got, want := string(c.location), "/there?code=42"; c.status != http.StatusSeeOther || got != want {
			t.Errorf("redirect: got %d to %q, want 303 to %q", c.status, got, want)
		}
	}
}

func TestMeasureFailsOnAWrongAnswer(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err := measure(s.Listener.Addr().String(), testCase{name: "x", prepare: get("/", "")}, load{connections: 2, length: time.Second})
	if err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Errorf("got %v, want an error that names the status", err)
	}
}
