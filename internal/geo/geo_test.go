package geo

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	const file = `network,country,city
192.0.2.128/25,Germany,Berlin
192.0.2.0/25,Germany
198.51.100.0/24,"Korea, Republic of",Seoul
2001:db8::/33,Japan,Tokyo
"3405803776","3405804031","FR","France"
"3221226240","3221226241","-","-","-","-"
"42540766490837959820137829184190840832","42540766490837959820137829184190840833","ES","Spain","Madrid","Madrid"
203.0.114.0,203.0.114.9,AU,Australia,Queensland,Brisbane
255.255.255.255/32,Nowhere
`
	path := filepath.Join(t.TempDir(), "places.csv")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"192.0.2.0":        "Germany",
		"192.0.2.127":      "Germany",
		"192.0.2.128":      "Berlin, Germany",
		"::ffff:192.0.2.9": "Germany",
		"192.0.3.0":        "",
		"192.0.1.255":      "",
		"198.51.100.7":     "Seoul, Korea, Republic of",
		"2001:db8::1":      "Tokyo, Japan",
		"2001:db8:8000::":  "",
		"203.0.113.0":      "France",
		"203.0.113.255":    "France",
		"203.0.114.9":      "Brisbane, Australia",
		"203.0.114.10":     "",
		"192.0.5.128":      "",
		"2001:db8::":       "Tokyo, Japan",
		"255.255.255.255":  "Nowhere",
		"0.0.0.0":          "",
		"::":               "",
	} {
		if got := table.Place(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	if got := (*Table)(nil).Place(netip.MustParseAddr("192.0.2.1")); got != "" {
		t.Errorf("no table knows %q", got)
	}
	if got := table.Place(netip.Addr{}); got != "" {
		t.Errorf("no address is in %q", got)
	}
	if _, err := Open(path + "x"); err == nil {
		t.Error("a missing file is a table")
	}
}

func TestBadTables(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"192.0.2.0/24,DE\nnetwork,country\n":                              "line 2: begins with no network",
		"192.0.2.0/33,DE\n192.0.2.0/33,DE\n":                              "line 2: begins with no network",
		"192.0.2.0/24\n":                                                  "line 1: is neither",
		"192.0.2.0/24,DE,Berlin,x\n":                                      "line 1: is neither",
		"1,2,DE\n":                                                        "line 1: is neither",
		"2,1,DE,Germany\n":                                                "line 1: ends before",
		"1,2001:db8::,DE,Germany\n":                                       "line 1: ends before",
		"192.0.2.0/24,\x01\n":                                             "line 1: names a place",
		"192.0.2.0/24,\xff\n":                                             "line 1: names a place",
		"192.0.2.0/24," + strings.Repeat("x", 101) + "\n":                 "line 1: names a place",
		"192.0.2.0/24,DE\n192.0.2.128/25,DE\n":                            "overlaps",
		"192.0.2.0/24,DE\n192.0.2.0/24,DE\n":                              "overlaps",
		"192.0.2.0/24,\"DE\n":                                             "line 1:",
		"0,0,-,-\n1," + strings.Repeat("9", 40) + ",DE,Germany\n":         "line 2: begins with no network",
		"0,0,-,-\n1,340282366920938463463374607431768211456,DE,Germany\n": "line 2: begins with no network",
	} {
		if _, err := Read(strings.NewReader(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", file, err, want)
		}
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"10.1.2.3": true, "192.168.0.1": true, "127.0.0.1": true, "::1": true, "fe80::1": true, "fd00::1": true, "100.64.0.1": true, "::ffff:10.0.0.1": true,
		"192.0.2.1": false, "100.128.0.1": false, "2001:db8::1": false,
	} {
		if got := Near(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %t, want %t", address, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("192.0.2.0/24,Germany,Berlin\n", "192.0.2.9")
	f.Add("\"1\",\"2\",\"FR\",\"France\"\n0.0.0.0/32,x\n", "0.0.0.1")
	f.Add("2001:db8::,2001:db8::ff,ES,Spain,Madrid,Madrid\n::/0,x\n", "2001:db8::1")
	f.Fuzz(func(t *testing.T, file, address string) {
		table, err := Read(strings.NewReader(file))
		if err != nil {
			return
		}
		a, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		if place := table.Place(a); strings.ContainsAny(place, "\n\x00") {
			t.Errorf("%s is in %q", a, place)
		}
	})
}
