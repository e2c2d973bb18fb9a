package ui

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// screenshots names a directory for pictures of the account pages: `make screenshots` puts those of docs/account.md into docs/img.
var screenshots = flag.String("screenshots", "", "directory to write pictures of the account pages to")

// maxPicture keeps the documentation small.
const maxPicture = 100 << 10

func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Parallel() // and then only the pages are looked at, not drawn
	}
	w := newWorld(t)
	s := &scene{world: w, t: t, alice: w.person(t, alice)}
	if err := w.people.SetProfile(t.Context(), s.alice.ID, identity.Profile{Name: "Alice Example", GivenName: "Alice", Locale: "en", Zoneinfo: "Europe/Berlin"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Photo album", "Team calendar"} {
		b := s.member()
		c := s.app(t, func(c *oauth.Client) { c.Name, c.ClientURI, c.LogoURI = name, "https://app.example.org", "" })
		b.press(b.get(authorize(c, nil)), "consent-allow", nil)
	}
	other := s.stranger()
	other.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1"
	other.signIn(alice)
	b := s.member()
	g := (*gallery)(nil)
	if *screenshots != "" {
		g = newGallery(t, w.handler)
	}
	for _, path := range []string{"", "/profile", "/preferences", "/apps", "/sessions", "/activity", "/privacy"} {
		p := b.get("/account"+path).want(200, "sign-out")
		if g == nil {
			continue
		}
		for _, m := range []manner{desk, night, phone} {
			g.show(p, m)
			small := smaller(t, look(g, "draw "+path, chromedp.FullScreenshot(100)))
			name := "account" + strings.ReplaceAll(path, "/", "-") + "-" + m.name + ".png"
			if len(small) > maxPicture {
				t.Errorf("%s has %d bytes, more than %d", name, len(small), maxPicture)
			}
			if err := os.WriteFile(filepath.Join(*screenshots, name), small, 0o644); err != nil { //nolint:gosec // a picture for everybody
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
