package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// window is one browser window with cookies of its own. Whatever Chromium complains about on the way — a script error, a
// violation of the content security policy, a resource that fails to load — fails the test.
type window struct {
	t       *testing.T
	ctx     context.Context
	shots   string
	mu      sync.Mutex
	trouble []string
}

// patience bounds one step. It is long, because the machine may be busy; a step that works takes milliseconds.
const patience = 60 * time.Second

// noScripts is a browser with JavaScript turned off.
var noScripts = command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})

func newWindow(t *testing.T, setUp ...chromedp.Action[chromedp.Void]) *window {
	t.Helper()
	return newWindowWith(t, nil, setUp...)
}

// newWindowWith is newWindow in a Chromium that was started with more options.
func newWindowWith(t *testing.T, more []chromedp.ExecAllocatorOption, setUp ...chromedp.Action[chromedp.Void]) *window {
	t.Helper()
	path := os.Getenv("GATEHOUSE_TEST_CHROMIUM")
	if path == "" {
		t.Fatal("GATEHOUSE_TEST_CHROMIUM is not set: run the tests with `make test`, which installs Chromium")
	}
	options := append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		// It must not ask the network for anything; a proxy from the surroundings must not see loopback.
		chromedp.Flag("no-proxy-server", true),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	w := &window{t: t, shots: artifacts(t)}
	w.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(w.listen))
	t.Cleanup(cancel)
	if err := chromedp.Do(w.ctx, setUp...); err != nil { // not under a deadline: with it the browser would end
		t.Fatalf("start Chromium: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.picture("failure")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, text := range w.trouble {
			t.Errorf("Chromium complains: %s", text)
		}
	})
	return w
}

// command makes a step of a protocol command.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (w *window) listen(event any) {
	var text string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		text = fmt.Sprintf("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		text = fmt.Sprintf("console.%s", e.Type)
		for _, arg := range e.Args {
			text += " " + string(arg.Value) + arg.Description
		}
	default:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = append(w.trouble, text)
}

// forgive takes back the complaints that a test provoked, once they have come.
func (w *window) forgive(part string) {
	w.t.Helper()
	about := func(text string) bool { return strings.Contains(text, part) }
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		before := len(w.trouble)
		w.trouble = slices.DeleteFunc(w.trouble, about)
		after := len(w.trouble)
		w.mu.Unlock()
		if after < before {
			return
		}
	}
	w.t.Errorf("Chromium did not complain of %q", part)
}

// do runs actions and fails the test with where it got to.
func (w *window) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ask(w, what, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		return chromedp.Steps(steps...)(ctx, t)
	})
}

// ask is do for an action with an answer.
func ask[T any](w *window, what string, action chromedp.Action[T]) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	for ; leftBehind(err); got, err = chromedp.Run(ctx, action) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		w.stuck(what, err)
	}
	return got
}

// leftBehind tells whether an action found its node just before the page moved on by itself, as those do that lead back
// to the app. It has done nothing then and is tried again on the page that follows.
func leftBehind(err error) bool {
	if err == nil {
		return false
	}
	for _, said := range []string{"No node with given id", "Could not find node with given id", "does not belong to the document", "Node is detached", "Cannot find context with specified id", "Execution context was destroyed"} {
		if strings.Contains(err.Error(), said) {
			return true
		}
	}
	return false
}

func (w *window) stuck(what string, err error) {
	w.t.Helper()
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("not within " + patience.String())
	}
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	location, _ := chromedp.Run(ctx, chromedp.Location())
	text, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	w.t.Fatalf("%s: %v\non %s:\n%.1000s", what, err, location, text)
}

// open visits an address and returns the status of the page it ends on.
func (w *window) open(address string) int64 {
	w.t.Helper()
	return w.arrive("open "+address, chromedp.Navigate(address))
}

// click presses what has the id, and returns the status of the page that follows.
func (w *window) click(id string) int64 {
	w.t.Helper()
	return w.arrive("click "+id, chromedp.Click(chromedp.ID(id), chromedp.NodeVisible))
}

func (w *window) arrive(what string, action chromedp.Action[chromedp.Void]) int64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, action)
	for ; leftBehind(err); resp, err = chromedp.RunResponse(ctx, action) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		w.stuck(what, err)
	}
	if resp == nil {
		return 0
	}
	return resp.Status
}

// see waits until what has the id can be seen, and returns its text.
func (w *window) see(id string) string {
	w.t.Helper()
	return strings.Join(strings.Fields(ask(w, "see "+id, chromedp.Text(chromedp.ID(id), chromedp.NodeVisible))), " ")
}

// read waits until what has the id says text.
func (w *window) read(id, text string) {
	w.t.Helper()
	got := ""
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(20 * time.Millisecond) {
		if got = w.see(id); got == text {
			return
		}
	}
	w.t.Fatalf("#%s says %q, want %q", id, got, text)
}

// fill replaces what stands in a field, by typing.
func (w *window) fill(id, text string) {
	w.t.Helper()
	w.do("fill "+id, chromedp.Clear(chromedp.ID(id), chromedp.NodeVisible), chromedp.SendKeys(chromedp.ID(id), text))
}

func (w *window) location() *url.URL {
	w.t.Helper()
	u, err := url.Parse(ask(w, "location", chromedp.Location()))
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// shot takes pictures of the page in light and dark and on a phone, and looks whether it fits there.
func (w *window) shot(name string) {
	w.t.Helper()
	desk := chromedp.EmulateViewport(1280, 900)
	w.do("light", scheme("light"), desk)
	w.picture(name + "-light")
	w.do("dark", scheme("dark"))
	w.picture(name + "-dark")
	w.do("phone", scheme("light"), chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	if width := w.measure(`document.documentElement.scrollWidth`); width > 360 {
		w.t.Errorf("%s is %d pixels wide on a phone of 360", w.location().Path, width)
	}
	w.picture(name + "-phone")
	w.do("desk", desk)
}

// view keeps what the window shows of the page in a size: `make screenshots` takes one for the README.
func (w *window) view(name string, width, height int64) {
	w.t.Helper()
	w.do("size", scheme("light"), chromedp.EmulateViewport(width, height))
	if err := os.WriteFile(filepath.Join(w.shots, name+".png"), ask(w, "draw "+name, chromedp.CaptureScreenshot()), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.do("desk", chromedp.EmulateViewport(1280, 900))
}

// measure computes a number in the page.
func (w *window) measure(expression string) int {
	w.t.Helper()
	return ask(w, expression, chromedp.Evaluate[int](expression))
}

// has tells whether the page holds what has the id.
func (w *window) has(id string) bool {
	w.t.Helper()
	return w.measure(fmt.Sprintf("document.querySelectorAll('#%s').length", id)) > 0
}

func scheme(name string) chromedp.Action[chromedp.Void] {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: name},
			{Name: "prefers-reduced-motion", Value: "reduce"}, // no picture of a page half-way
		},
	})
}

func (w *window) picture(name string) {
	w.t.Helper()
	var png []byte
	var err error
	for range 3 { // a busy browser now and then leaves one undrawn
		ctx, cancel := context.WithTimeout(w.ctx, patience/3)
		png, err = chromedp.Run(ctx, chromedp.FullScreenshot(100))
		cancel()
		if err == nil {
			break
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.shots, name+".png"), png, 0o644)
	}
	if err != nil {
		w.t.Errorf("picture of %s: %v", name, err)
	}
}

// What the other tests rely on: a violated policy, a missing file and a script's cry do not go unnoticed.
func TestWindowNoticesTrouble(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; img-src 'self'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><title>x</title><p id="p">p</p><script>1</script><script src="/cry.js"></script><img src="/missing.png" alt="">`))
	})
	mux.HandleFunc("GET /cry.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write([]byte(`console.error("cry"); throw new Error("out")`))
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	w := newWindow(t)
	w.open(s.URL)
	w.see("p")
	w.forgive("Content Security Policy")
	w.forgive("missing.png")
	w.forgive("console.error")
	w.forgive("exception")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = nil // the favicon that a browser asks for by itself
}
