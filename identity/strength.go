package identity

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-id/gatehouse/identity/internal/words"
)

// Lengths of a password in characters after NFC (NIST SP 800-63B §3.1.1.2: all of Unicode, spaces, no composition rules).
const (
	MinPassword = 12
	MaxPassword = 128
)

// minGuessBits is the strength below which a password counts as a decorated common one: about 2³⁴ guesses in the order of
// a guesser who knows the lists, names, patterns and habits below.
const minGuessBits = 34

// ValidatePassword reports FieldErrors{"password": …} for a password that nobody should have: too short or long, leaked,
// a common one with decoration, a pattern, or made of userInputs (the person's address and names).
func (d *Directory) ValidatePassword(password string, userInputs ...string) error {
	if key := passwordProblem(password, userInputs); key != "" {
		return FieldErrors{"password": key}
	}
	return nil
}

// passwordProblem gives the locale key of what is wrong with a password, or "".
func passwordProblem(password string, userInputs []string) string {
	key, _ := judge(password, userInputs)
	return key
}

// judge tells what is wrong with a password, if anything, and how many bits it takes to guess; what has the wrong length or
// characters is not looked into and has none.
func judge(password string, userInputs []string) (key string, bits float64) {
	switch {
	case password == "":
		return KeyRequired, 0
	case len(password) > maxPasswordBytes:
		return KeyPasswordLong, 0
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return KeyCharacters, 0
	}
	password = norm.NFC.String(password)
	switch n := utf8.RuneCountInString(password); {
	case n < MinPassword:
		return KeyPasswordShort, 0
	case n > MaxPassword:
		return KeyPasswordLong, 0
	}
	if _, leaked := words.Find(strings.ToLower(password)); leaked {
		return KeyPasswordCommon, 0
	}
	g := guess(password, userInputs)
	switch {
	case g.bits >= minGuessBits:
		return "", g.bits
	case g.personal > 0:
		return KeyPasswordPersonal, g.bits
	case g.pattern > g.listed:
		return KeyPasswordPattern, g.bits
	}
	return KeyPasswordCommon, g.bits
}

// PasswordStrength rates a password from 0 (refused or guessed at once) to 4 (very strong), for a meter. What
// ValidatePassword refuses never gets more than 1. Its work is bounded by MaxPassword.
//
// It is an estimator of our own in place of zxcvbn-go: that keeps 6 MB of dictionaries in the heap of an idle server,
// and its handling of "l33t" takes exponential time in the number of substituted letters.
func PasswordStrength(password string, userInputs ...string) int {
	key, bits := judge(password, userInputs)
	switch {
	case bits < minGuessBits/2:
		return 0
	case key != "":
		return 1
	case bits < 42:
		return 2
	case bits < 56:
		return 3
	}
	return 4
}

// guesses is the cheapest way to name a password: its bits, and how many characters came of what.
type guesses struct {
	bits                      float64
	listed, pattern, personal int
}

// guess finds the cheapest way to put a password together of single characters, listed words (also with capitals and
// digits for letters), the person's own words, repetitions of what came before, sequences, keyboard walks and years. Each
// position keeps its best way; the steps from one position to another are the tokens.
func guess(password string, userInputs []string) guesses {
	typed := []rune(password)
	lower := make([]rune, len(typed))
	for i, r := range typed {
		lower[i] = unicode.ToLower(r)
	}
	best := make([]guesses, len(typed)+1)
	for i := range best[1:] {
		best[i+1].bits = math.Inf(1)
	}
	own := ownWords(userInputs)
	leet := [...][]rune{lower, unleet(lower, 'i'), unleet(lower, 'l')}
	for i := range typed {
		from := best[i]
		step := func(n int, bits float64, kind func(g *guesses, n int)) {
			if to := &best[i+n]; from.bits+bits < to.bits {
				*to = from
				to.bits += bits
				if kind != nil {
					kind(to, n)
				}
			}
		}
		step(1, charBits(typed[i]), nil)
		for v, text := range leet {
			if v > 0 && text == nil {
				continue
			}
			wordSteps(typed, text, i, own, float64(min(v, 1)), step)
		}
		if n := sequence(lower[i:]); n >= 3 {
			step(n, 5+math.Log2(float64(n)), isPattern)
		}
		if n, turns := keyboardWalk(lower[i:]); n >= 3 {
			step(n, 6+2*float64(turns)+math.Log2(float64(n)), isPattern)
		}
		if isYear(lower[i:]) {
			step(4, 7, isPattern)
		}
		for back := 1; back <= i; back++ {
			n := 0
			for i+n < len(lower) && lower[i+n] == lower[i+n-back] {
				n++
			}
			if n >= 3 || n >= 2 && back == 1 {
				step(n, 2+math.Log2(float64(back+1))+math.Log2(float64(n))/2, isPattern)
			}
		}
	}
	return best[len(typed)]
}

func isListed(g *guesses, n int)   { g.listed += n }
func isPattern(g *guesses, n int)  { g.pattern += n }
func isPersonal(g *guesses, n int) { g.personal += n }

// wordSteps steps over each listed or own word that begins at i.
func wordSteps(typed, text []rune, i int, own map[words.Hash]bool, extra float64, step func(n int, bits float64, kind func(*guesses, int))) {
	var h words.Hash
	capitals := 0
	for n := 1; n <= words.Longest && i+n <= len(text); n++ {
		h = h.Add(text[i+n-1])
		if unicode.IsUpper(typed[i+n-1]) {
			capitals++
		}
		if n < words.Shortest {
			continue
		}
		dress := extra
		switch {
		case capitals == n, capitals == 1 && unicode.IsUpper(typed[i]):
			dress++
		case capitals > 0:
			dress += 2 + float64(min(capitals, n-capitals))
		}
		if own[h] {
			step(n, 3+dress, isPersonal)
		}
		if tier, ok := words.Lookup(h); ok {
			step(n, tier.Bits()+dress, isListed)
		}
	}
}

// charBits is what guessing one character takes that belongs to nothing.
func charBits(r rune) float64 {
	switch {
	case unicode.IsDigit(r):
		return 3.4
	case 'a' <= r && r <= 'z':
		return 4.7
	case 'A' <= r && r <= 'Z':
		return 5.2
	case r == ' ', r == '-', r == '.', r == '_', r == '!':
		return 3
	case r < utf8.RuneSelf:
		return 5
	}
	return 7
}

// unleet reads digits and signs as the letters they stand for, "1" and "!" as one; nil if there are none.
func unleet(s []rune, one rune) []rune {
	out, changed := make([]rune, len(s)), false
	for i, r := range s {
		out[i] = r
		switch r {
		case '@', '4':
			out[i] = 'a'
		case '3', '€':
			out[i] = 'e'
		case '0':
			out[i] = 'o'
		case '$', '5':
			out[i] = 's'
		case '7', '+':
			out[i] = 't'
		case '8':
			out[i] = 'b'
		case '6', '9':
			out[i] = 'g'
		case '2':
			out[i] = 'z'
		case '1', '!', '|':
			out[i] = one
		}
		changed = changed || out[i] != r
	}
	if !changed {
		return nil
	}
	return out
}

// sequence counts the characters from the start that go up or down by one, as in "abcd" or "9876" (with "0" after "9").
func sequence(s []rune) int {
	if len(s) < 3 {
		return 0
	}
	next := func(a, b rune) rune {
		switch {
		case a == '9' && b == '0':
			return 1
		case a == '0' && b == '9':
			return -1
		}
		return b - a
	}
	dir := next(s[0], s[1])
	if dir != 1 && dir != -1 {
		return 0
	}
	n := 2
	for n < len(s) && next(s[n-1], s[n]) == dir {
		n++
	}
	return n
}

// keyRows are the common keyboards, each row shifted by half a key from the one above; QWERTZ and AZERTY rows walk alike
// but for single keys.
var keyRows = [...]string{"1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"}

// keyboardWalk counts the characters from the start that lie side by side on the keyboard, and the turns among them.
func keyboardWalk(s []rune) (n, turns int) {
	type place struct{ row, col int }
	find := func(r rune) (place, bool) {
		for row, keys := range keyRows {
			if col := strings.IndexRune(keys, r); col >= 0 {
				return place{row, col}, true
			}
		}
		return place{}, false
	}
	at, ok := find(s[0])
	if !ok {
		return 0, 0
	}
	var dir place
	for n = 1; n < len(s); n++ {
		to, ok := find(s[n])
		if !ok {
			break
		}
		move := place{to.row - at.row, to.col - at.col}
		side := move.row == 0 && (move.col == 1 || move.col == -1)
		down := move.row == 1 && (move.col == 0 || move.col == -1)
		up := move.row == -1 && (move.col == 0 || move.col == 1)
		if !side && !down && !up {
			break
		}
		if n > 1 && move != dir {
			turns++
		}
		at, dir = to, move
	}
	return n, turns
}

// isYear tells whether a year of a living person's time comes next.
func isYear(s []rune) bool {
	if len(s) < 4 || (s[0] != '1' || s[1] != '9') && (s[0] != '2' || s[1] != '0') {
		return false
	}
	return '0' <= s[2] && s[2] <= '9' && '0' <= s[3] && s[3] <= '9'
}

// ownWords hashes the words in what is known of the person. Only so many count that the work stays bounded.
func ownWords(inputs []string) map[words.Hash]bool {
	own := map[words.Hash]bool{}
	for _, in := range inputs[:min(len(inputs), 16)] {
		if len(in) > 4*maxEmail {
			continue
		}
		in = strings.ToLower(norm.NFC.String(in))
		all := strings.FieldsFunc(in, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		for _, w := range append(all, strings.Join(all, "")) {
			if utf8.RuneCountInString(w) >= words.Shortest && len(own) < 64 {
				own[words.Of(w)] = true
			}
		}
	}
	return own
}

// personalInputs is what a person's password must not be made of.
func personalInputs(email string, p Profile) []string {
	return []string{email, p.Name, p.GivenName, p.FamilyName, p.MiddleName, p.Nickname, p.PreferredUsername, p.PhoneNumber, p.Birthdate}
}
