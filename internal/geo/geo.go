// Package geo tells roughly where a network address is, from a table that the operator has put into a file. It asks nobody
// and knows no such table itself.
package geo

import (
	"cmp"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table finds the place of an address. A nil Table knows none. It is safe for concurrent use.
type Table struct {
	places []string // places[0] is "": not known
	v4     []entry[uint32]
	v6     []entry[wide]
}

// entry says that a place reaches from an address to the next entry.
type entry[A any] struct {
	first A
	place uint32
}

// wide is an IPv6 address.
type wide struct{ high, low uint64 }

func (w wide) compare(v wide) int {
	return cmp.Or(cmp.Compare(w.high, v.high), cmp.Compare(w.low, v.low))
}

func narrowOf(a netip.Addr) uint32 {
	raw := a.As4()
	return binary.BigEndian.Uint32(raw[:])
}

func wideOf(a netip.Addr) wide {
	raw := a.As16()
	return wide{binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])}
}

// maxPlace bounds the name of a country or a city, in bytes.
const maxPlace = 100

// Open reads the table in a file.
func Open(path string) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f)
}

// Read reads a table: CSV in UTF-8, each line either NETWORK,COUNTRY[,CITY] with a network such as 192.0.2.0/24, or as IP2Location
// LITE has it, FIRST,LAST,CODE,COUNTRY[,REGION,CITY] with addresses as numbers or in full. A first line with headings is
// passed over. Lines may come in any order, but must not overlap.
func Read(r io.Reader) (*Table, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	in.ReuseRecord = true
	t := &Table{places: []string{""}}
	known := map[string]uint32{"": 0}
	var v4, v6 []span
	for n := 1; ; n++ {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, errors.Unwrap(err))
		}
		s, place, err := parse(record)
		if err != nil {
			if n == 1 && err == errNoAddress { //nolint:errorlint // headings
				continue
			}
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		i, ok := known[place]
		if !ok {
			i = uint32(len(t.places)) //nolint:gosec // memory ends before
			place = strings.Clone(place)
			known[place], t.places = i, append(t.places, place)
		}
		s.place = i
		if s.first.Is4() {
			v4 = append(v4, s)
		} else {
			v6 = append(v6, s)
		}
	}
	var err error
	if t.v4, err = compact(v4, narrowOf); err == nil {
		t.v6, err = compact(v6, wideOf)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// span is a line of the file.
type span struct {
	first, last netip.Addr
	place       uint32
}

var (
	errNoAddress = errors.New("begins with no network such as 192.0.2.0/24, and with no address")
	errFields    = errors.New("is neither NETWORK,COUNTRY[,CITY] nor FIRST,LAST,CODE,COUNTRY[,REGION,CITY]")
	errName      = fmt.Errorf("names a place that is no text of at most %d bytes", maxPlace)
)

func parse(record []string) (s span, place string, err error) {
	var country, city string
	if strings.Contains(record[0], "/") {
		network, err := netip.ParsePrefix(record[0])
		if err != nil || network.Addr().Is4In6() {
			return s, "", errNoAddress
		}
		if len(record) != 2 && len(record) != 3 {
			return s, "", errFields
		}
		s.first = network.Masked().Addr()
		s.last = lastOf(network)
		country = record[1]
		if len(record) == 3 {
			city = record[2]
		}
	} else {
		if s.first, err = parseAddress(record[0]); err != nil {
			return s, "", err
		}
		if len(record) != 4 && len(record) != 6 {
			return s, "", errFields
		}
		if s.last, err = parseAddress(record[1]); err != nil {
			return s, "", err
		}
		if s.first.BitLen() != s.last.BitLen() || s.last.Less(s.first) {
			return s, "", errors.New("ends before it begins")
		}
		if country = record[3]; len(record) == 6 {
			city = record[5]
		}
	}
	for _, name := range []string{country, city} {
		if len(name) > maxPlace || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return s, "", errName
		}
	}
	if country == "-" { // IP2Location's word for nowhere
		return s, "", nil
	}
	if city != "" && city != "-" && city != country {
		return s, city + ", " + country, nil
	}
	return s, country, nil
}

// maxDigits is the length of the largest IPv6 address as a number.
const maxDigits = 39

// parseAddress reads an address in full or as a number, below 2^32 of IPv4.
func parseAddress(text string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return a.Unmap(), nil
	}
	if text == "" || len(text) > maxDigits || strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		return netip.Addr{}, errNoAddress
	}
	n, ok := new(big.Int).SetString(text, 10)
	switch {
	case !ok || n.BitLen() > 128:
		return netip.Addr{}, errNoAddress
	case n.BitLen() <= 32:
		return netip.AddrFrom4([4]byte(n.FillBytes(make([]byte, 4)))), nil
	}
	return netip.AddrFrom16([16]byte(n.FillBytes(make([]byte, 16)))).Unmap(), nil
}

// lastOf is the last address of a network.
func lastOf(network netip.Prefix) netip.Addr {
	raw := network.Masked().Addr().AsSlice()
	for i := network.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// compact sorts the spans and keeps where each begins, and where a gap does.
func compact[A any](spans []span, raw func(netip.Addr) A) ([]entry[A], error) {
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	var entries []entry[A]
	add := func(first netip.Addr, place uint32) {
		if len(entries) == 0 || entries[len(entries)-1].place != place {
			entries = append(entries, entry[A]{raw(first), place})
		}
	}
	for i, s := range spans {
		add(s.first, s.place)
		next := s.last.Next() // not valid behind the last address there is
		switch {
		case i+1 < len(spans) && spans[i+1].first.Compare(s.last) <= 0:
			return nil, fmt.Errorf("%s to %s overlaps %s to %s", s.first, s.last, spans[i+1].first, spans[i+1].last)
		case i+1 < len(spans) && spans[i+1].first == next:
		case next.IsValid():
			add(next, 0)
		}
	}
	return slices.Clip(entries), nil
}

// Place names the place of an address, "" if it is not known.
func (t *Table) Place(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case t == nil || !a.IsValid():
		return ""
	case a.Is4():
		return t.places[find(t.v4, narrowOf(a), cmp.Compare)]
	}
	return t.places[find(t.v6, wideOf(a), wide.compare)]
}

func find[A any](entries []entry[A], a A, compare func(a, b A) int) uint32 {
	i, found := slices.BinarySearchFunc(entries, a, func(e entry[A], a A) int { return compare(e.first, a) })
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return entries[i].place
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: of providers, within their networks

// Near reports whether an address is one of a network of one's own, which no table knows (RFC 1918, 4193, 6598; loopback and link-local).
func Near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || shared.Contains(a)
}
