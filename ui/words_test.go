package ui

import (
	"testing"
	"time"
)

func TestWhen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		at   time.Time
		zone string
		want string
	}{
		{"now", now.Add(-20 * time.Second), "", "just now"},
		{"a minute", now.Add(-90 * time.Second), "", "a minute ago"},
		{"minutes", now.Add(-59 * time.Minute), "", "59 minutes ago"},
		{"today", now.Add(-2 * time.Hour), "", "today at 21:30 UTC"},
		{"yesterday", now.Add(-26 * time.Hour), "", "yesterday at 21:30 UTC"},
		{"date", now.Add(-72 * time.Hour), "", "7 March 2026 at 23:30 UTC"},
		{"in a zone it is today", now.Add(-time.Hour), "Asia/Tokyo", "today at 07:30 JST"},
		{"in a zone it was yesterday", now.Add(-10 * time.Hour), "Asia/Tokyo", "yesterday at 22:30 JST"},
		{"clock a little ahead", now.Add(time.Minute), "", "today at 23:31 UTC"},
		{"no such zone", now.Add(-2 * time.Hour), "Mars/Base", "today at 21:30 UTC"},
		{"the server's own zone", now.Add(-2 * time.Hour), "Local", "today at 21:30 UTC"},
		{"path in a zone", now.Add(-2 * time.Hour), "../../etc/passwd", "today at 21:30 UTC"},
	} {
		if got := w.pages.locales[0].when(tt.at, now, tt.zone); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                     "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                            "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":              "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15":                      "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1":     "Chrome on iPhone",
		"Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/140.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
		"curl/8.14.1":        "curl",
		"Something on Linux": "Browser on Linux",
		"":                   "Unknown browser",
		"<script>":           "Unknown browser",
	} {
		if got := w.pages.locales[0].device(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
	f.Add("\xff<script>Edg/ iPhone")
	known := map[string]bool{"": true}
	for _, m := range append(append([]mark{}, browsers...), systems...) {
		known[m.name] = true
	}
	f.Fuzz(func(t *testing.T, agent string) {
		if browser, system := device(agent); !known[browser] || !known[system] {
			t.Errorf("device(%q) = %q, %q: words of a stranger", agent, browser, system)
		}
	})
}
