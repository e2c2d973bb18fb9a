// Package words knows which words and passwords people choose, and roughly how early a guesser tries each. The list holds
// no words but short hashes, and is searched where it lies in the binary: it costs no heap and names no password.
package words

import (
	_ "embed"
	"sort"
	"unicode/utf8"
)

//go:generate go run ./gen

// list is a row of entries of EntrySize bytes in ascending order: a hash of 38 bits, then a tier of 2.
//
//go:embed words.bin
var list string

// EntrySize is the size of an entry in bytes.
const EntrySize = 5

// Longest and shortest word of the list, in characters.
const (
	Shortest = 3
	Longest  = 24
)

// Tier says how early a word is guessed.
type Tier byte

// Tiers, and how many bits it takes to name a word in each.
const (
	Commonest Tier = iota // the hundred commonest words
	Common                // the thousand commonest passwords and words
	Known                 // other passwords that leaked often, and common names
	Listed                // other words and names
)

// Bits is what naming a word of the tier takes.
func (t Tier) Bits() float64 { return [...]float64{6.6, 10, 15, 16}[t&3] }

// Hash is a running hash of a word's characters: FNV-1a, so that each character costs one step. The zero Hash is of the
// empty word.
type Hash uint64

// Add gives the hash of the word with one character more.
func (h Hash) Add(r rune) Hash {
	return (h ^ Hash(uint32(r)) ^ 0xcbf29ce484222325) * 0x100000001b3 //nolint:gosec // runes are not negative
}

// Key gives the 38 bits that the list keeps of a hash.
func (h Hash) Key() uint64 {
	x := uint64(h)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd // spreads what FNV leaves in the low bits
	x ^= x >> 33
	return x >> 26
}

// Of hashes a whole word, which must be in lower case.
func Of(word string) (h Hash) {
	for _, r := range word {
		h = h.Add(r)
	}
	return h
}

// Lookup finds the tier of a hashed word. One in about three million random words is found by accident.
func Lookup(h Hash) (Tier, bool) {
	key := h.Key()
	n := len(list) / EntrySize
	i := sort.Search(n, func(i int) bool { return entry(i)>>2 >= key })
	if i == n || entry(i)>>2 != key {
		return 0, false
	}
	return Tier(entry(i) & 3), true
}

// Find finds the tier of a word in lower case.
func Find(word string) (Tier, bool) {
	if n := utf8.RuneCountInString(word); n < Shortest || n > Longest {
		return 0, false
	}
	return Lookup(Of(word))
}

func entry(i int) uint64 {
	e := list[i*EntrySize : (i+1)*EntrySize]
	return uint64(e[0])<<32 | uint64(e[1])<<24 | uint64(e[2])<<16 | uint64(e[3])<<8 | uint64(e[4])
}
