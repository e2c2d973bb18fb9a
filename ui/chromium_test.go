package ui

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// gallery shows pages that a test has seen before to Chromium, as they came, with their policy. So a page of any state, the
// answer to a form too, can be looked at without driving Chromium there. What the pages load and send elsewhere is not answered.
type gallery struct {
	t   *testing.T
	ctx context.Context
	url string

	mu    sync.Mutex
	shown page
	n     int
}

// patience bounds one step in Chromium. It is long, because the machine may be busy.
const patience = 60 * time.Second

func newGallery(t *testing.T, assets http.Handler) *gallery {
	t.Helper()
	path := os.Getenv("GATEHOUSE_TEST_CHROMIUM")
	if path == "" {
		t.Fatal("GATEHOUSE_TEST_CHROMIUM is not set: run the tests with `make test`, which installs Chromium")
	}
	g := &gallery{t: t}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/assets/"):
			assets.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/shown/"):
			g.mu.Lock()
			defer g.mu.Unlock()
			maps.Copy(w.Header(), g.shown.header)
			w.Header().Del("Content-Length")
			_, _ = w.Write([]byte(g.shown.body))
		default:
			w.WriteHeader(http.StatusNoContent) // a page that moves on by itself stays
		}
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-proxy-server", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), // it asks the network for nothing
	)...)
	t.Cleanup(cancel)
	g.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(g.ctx); err != nil { // not under a deadline: with it the browser would end
		t.Fatalf("start Chromium: %v", err)
	}
	return g
}

// manner is how a page is looked at.
type manner struct {
	name   string
	scheme string // light or dark
	width  int
	height int
}

var (
	desk  = manner{"light", "light", 1280, 900}
	night = manner{"dark", "dark", 1280, 900}
	phone = manner{"phone", "light", 390, 844}
)

// show opens a page in a manner.
func (g *gallery) show(p page, m manner) {
	g.t.Helper()
	g.mu.Lock()
	g.shown = p
	g.n++
	address := fmt.Sprintf("%s/shown/%d", g.url, g.n)
	g.mu.Unlock()
	g.do("show "+p.url.Path, command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: m.scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"}, // no page half-way
		},
	}), chromedp.EmulateViewport(int64(m.width), int64(m.height)), chromedp.Navigate(address))
}

func (g *gallery) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	g.t.Helper()
	look(g, what, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Steps(steps...)(ctx, t)
		return err
	}))
}

// look is do for an action with an answer.
func look[T any](g *gallery, what string, action chromedp.Action[T]) T {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		g.t.Fatalf("%s: %v", what, err)
	}
	return got
}

// command makes a step of a protocol command.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}
