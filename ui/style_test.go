package ui

import (
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"testing"
)

// TestContrast holds both grounds to WCAG 2.2 AA: 4.5 for text (§1.4.3), 3 for the outline of controls (§1.4.11).
func TestContrast(t *testing.T) {
	t.Parallel()
	raw, err := fs.ReadFile(pageFiles, "assets/gatehouse.css")
	if err != nil {
		t.Fatal(err)
	}
	dark, err := fs.ReadFile(pageFiles, "assets/dark.css")
	if err != nil {
		t.Fatal(err)
	}
	for name, css := range map[string]string{"light": string(raw), "dark": string(dark)} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"ink", "ground", 4.5},
			{"ink", "surface", 4.5},
			{"ink-quiet", "ground", 4.5},
			{"ink-quiet", "surface", 4.5},
			{"accent", "ground", 4.5},
			{"accent", "surface", 4.5},
			{"accent-strong", "surface", 4.5},
			{"on-accent", "accent", 4.5},
			{"on-accent", "accent-strong", 4.5},
			{"ink", "tint", 4.5},
			{"ink", "good-tint", 4.5},
			{"ink", "warn-tint", 4.5},
			{"bad", "surface", 4.5},
			{"bad", "bad-tint", 4.5},
			{"good", "surface", 4.5},
			{"good", "good-tint", 4.5},
			{"warn", "surface", 4.5},
			{"warn", "warn-tint", 4.5},
			{"line-control", "surface", 3},
			{"line-control", "ground", 3},
		} {
			a, okA := colours[pair.front]
			b, okB := colours[pair.back]
			if !okA || !okB {
				t.Fatalf("%s: no colour --%s or --%s", name, pair.front, pair.back)
			}
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < pair.least {
				t.Errorf("%s: --%s on --%s has contrast %.2f, want %.1f", name, pair.front, pair.back, got, pair.least)
			}
		}
	}
}

// luminance is the relative luminance of WCAG.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
