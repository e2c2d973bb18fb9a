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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/geo"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// screenshots names a directory for pictures of the account pages: `make screenshots` puts those of docs/account.md into docs/img.
var screenshots = flag.String("screenshots", "", "directory to write pictures of the account pages to")

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

// Without the flag this only sees that there is something to draw, and that docs/account.md shows what is drawn.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	places, err := geo.Read(strings.NewReader("192.0.2.0/24,France,Lyon\n"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/account.md")
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
			name := strings.ReplaceAll(strings.TrimPrefix(one.path, "/"), "/", "-") + "-" + m.name + ".png"
			if !strings.Contains(string(text), "(img/"+name+")") {
				t.Errorf("docs/account.md does not show img/%s", name)
			}
			if g == nil {
				continue
			}
			g.show(p, m)
			small := smaller(t, look(g, "draw "+one.path, chromedp.FullScreenshot(100)))
			if len(small) > maxPicture {
				t.Errorf("%s has %d bytes, more than %d", name, len(small), maxPicture)
			}
			if err := os.WriteFile(filepath.Join(*screenshots, name), small, 0o644); err != nil { //nolint:gosec // for everybody to see
				t.Fatal(err)
			}
		}
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
