package ui

import (
	"net/netip"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/geo"
)

// device says in plain words which browser on which system a User-Agent header speaks of, for people who look for a
// stranger among their sessions. Only words from the lists below come out, whatever the header holds; "" means unknown.
// The header is a claim of the client and decides nothing.
func device(userAgent string) (browser, system string) {
	return firstMark(userAgent, browsers), firstMark(userAgent, systems)
}

type mark struct{ token, name string }

// Order matters: most browsers also name those they descend from.
var browsers = []mark{
	{"Edg/", "Edge"},
	{"EdgA/", "Edge"},
	{"EdgiOS/", "Edge"},
	{"OPR/", "Opera"},
	{"OPT/", "Opera"},
	{"SamsungBrowser/", "Samsung Internet"},
	{"Vivaldi/", "Vivaldi"},
	{"YaBrowser/", "Yandex Browser"},
	{"DuckDuckGo/", "DuckDuckGo"},
	{"Ddg/", "DuckDuckGo"},
	{"Firefox/", "Firefox"},
	{"FxiOS/", "Firefox"},
	{"CriOS/", "Chrome"},
	{"HeadlessChrome/", "Chrome"},
	{"Chrome/", "Chrome"},
	{"Chromium/", "Chromium"},
	{"Safari/", "Safari"},
	{"curl/", "curl"},
}

var systems = []mark{
	{"iPhone", "iPhone"},
	{"iPad", "iPad"},
	{"Android", "Android"},
	{"CrOS", "ChromeOS"},
	{"Windows", "Windows"},
	{"Macintosh", "macOS"},
	{"FreeBSD", "FreeBSD"},
	{"OpenBSD", "OpenBSD"},
	{"Linux", "Linux"},
}

func firstMark(s string, marks []mark) string {
	for _, m := range marks {
		if strings.Contains(s, m.token) {
			return m.name
		}
	}
	return ""
}

// device is the browser and its system as one phrase.
func (l *locale) device(userAgent string) string {
	browser, system := device(userAgent)
	switch {
	case browser != "" && system != "":
		return l.text("device.both", browser, system)
	case browser != "":
		return browser
	case system != "":
		return l.text("device.system", system)
	}
	return l.text("device.unknown")
}

// place is where an address is, as far as the operator's table knows: a town and a country, as the table spells them.
func (p *Pages) place(l *locale, a netip.Addr) string {
	if geo.Near(a) {
		return l.text("place.here")
	}
	return p.Places.Place(a)
}
