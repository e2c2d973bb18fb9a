package ui

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/geo"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// screenshots names a directory for pictures of the pages: `make screenshots` puts those of the documentation into docs/img.
var screenshots = flag.String("screenshots", "", "directory to write pictures of the pages to")

// maxPicture keeps the documentation small.
const maxPicture = 100 << 10

// pictures are the pages of docs/account.md and how they are shown there.
var pictures = []struct {
	path    string
	manners []manner
}{
	{"/account", []manner{desk, night, phone}},
	{"/account/profile", []manner{desk}},
	{"/account/preferences", []manner{desk}},
	{"/account/two-step", []manner{desk}},
	{"/account/apps", []manner{desk, phone}},
	{"/account/sessions", []manner{desk, night, phone}},
	{"/account/activity", []manner{desk}},
	{"/account/privacy", []manner{desk}},
}

// card is a window about a page that is one card.
var card = manner{"light", "light", 720, 480}

// drawn are pages of other states, each in a world of its own, and the page of the documentation that shows them.
var drawn = []struct {
	name    string
	doc     string
	manners []manner
	show    func(s *scene) page
}{
	{"sign-in", "../README.md", []manner{{"", "light", 1280, 800}}, func(s *scene) page { return s.visiting("/login") }},
	{"consent", "../docs/account.md", []manner{card}, func(s *scene) page {
		p := s.member().get(s.reachAPIs(s.t, payRent))
		p.body = regexp.MustCompile(`<img class="app-logo"[^>]*>`).ReplaceAllString(p.body, "") // nobody serves it
		return p
	}},
	{"account-requests", "../docs/account.md", []manner{desk, phone}, func(s *scene) page {
		s.ask(s.t, "Order 4711, 25 EUR")
		return s.member().get("/account/requests")
	}},
	{"account-agents", "../docs/account.md", []manner{desk}, func(s *scene) page {
		b := s.member()
		app, token := b.letAct(s.world)
		s.goOn(s.t, app, token)
		list, err := s.server.Agents(s.t.Context(), s.alice.ID)
		if err != nil || len(list) != 1 {
			s.t.Fatal(list, err)
		}
		return b.press(b.get("/account/agents"), "agent-pause-"+list[0].GrantID, nil)
	}},
	{"attributes-missing", "../docs/account.md", []manner{card}, func(s *scene) page {
		s.required(s.t)
		return s.stranger().signIn(alice)
	}},
	{"not-me", "../docs/account.md", []manner{card}, func(s *scene) page {
		return s.visiting("/not-me?t=" + s.notMe(s.t, s.alice.ID, identity.ActAddress))
	}},
	{"verify-link", "../docs/account.md", []manner{card}, func(s *scene) page {
		s.unproven()
		return s.visiting("/verify/link?t=" + s.link(bob, identity.Verify))
	}},
}

// Without the flag this only sees that there is something to draw, and that the documentation shows what is drawn.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	places, err := geo.Read(strings.NewReader("192.0.2.0/24,France,Lyon\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Places = places })
	s := &scene{world: w, t: t, alice: w.person(t, alice)}
	if err := w.people.SetProfile(t.Context(), s.alice.ID, identity.Profile{Name: "Alice Example", GivenName: "Alice", Locale: "en", Zoneinfo: "Europe/Paris"}); err != nil {
		t.Fatal(err)
	}
	for _, agent := range []string{"Mozilla/5.0 (Windows NT 10.0) Edg/140.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1"} {
		b := s.stranger()
		b.agent = agent
		b.signIn(alice)
		w.clock.forward(90 * time.Second)
	}
	b := s.member()
	for _, name := range []string{"Photo album", "Team calendar"} {
		c := s.app(t, func(c *oauth.Client) { c.Name, c.LogoURI = name, "" })
		b.press(b.get(authorize(c, nil)), "consent-allow", nil)
	}
	var g *gallery
	if *screenshots != "" {
		g = newGallery(t, w.handler)
	}
	for _, one := range pictures {
		p := b.get(one.path).want(http.StatusOK, "sign-out")
		for _, m := range one.manners {
			g.keep(t, p, "../docs/account.md", strings.ReplaceAll(strings.TrimPrefix(one.path, "/"), "/", "-"), m)
		}
	}
	for _, one := range drawn {
		own := &scene{world: newWorld(t, withMailCodes), t: t}
		own.alice = own.person(t, alice)
		p := one.show(own)
		for _, m := range one.manners {
			g.keep(t, p, one.doc, one.name, m)
		}
	}
}

// keep draws a page into the directory of the flag, if there is one, and holds the documentation to showing it.
func (g *gallery) keep(t *testing.T, p page, doc, name string, m manner) {
	t.Helper()
	if m.name != "" {
		name += "-" + m.name
	}
	name += ".png"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "img/"+name+")") {
		t.Errorf("%s does not show img/%s", doc, name)
	}
	if g == nil {
		return
	}
	g.show(p, m)
	small := smaller(t, look(g, "draw "+name, chromedp.FullScreenshot(100)))
	if len(small) > maxPicture {
		t.Errorf("%s has %d bytes, more than %d", name, len(small), maxPicture)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), small, 0o644); err != nil { //nolint:gosec // for everybody to see
		t.Fatal(err)
	}
}

// smaller draws a picture again with the 256 colours it needs most: pages have few.
func smaller(t *testing.T, raw []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
		}
	}
	var most []color.RGBA
	for c := range count {
		most = append(most, c)
	}
	slices.SortFunc(most, func(a, b color.RGBA) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return int(a.R)<<16 + int(a.G)<<8 + int(a.B) - int(b.R)<<16 - int(b.G)<<8 - int(b.B)
	})
	var palette color.Palette
	for _, c := range most[:min(len(most), 256)] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(bounds, palette)
	nearest := map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			i, ok := nearest[c]
			if !ok {
				i = uint8(palette.Index(c)) //nolint:gosec // of 256
				nearest[c] = i
			}
			few.SetColorIndex(x, y, i)
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, few); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
