package ui

import (
	"strconv"

	"github.com/gatehouse-id/gatehouse/identity"
)

// strength is how hard a typed password is to guess.
type strength struct {
	Score int    // 0 to 4
	Key   string // locale key of the score in words
}

// measure judges a password that came back with a form; nil for an empty one. inputs are the person's own name and address,
// which make a password easier to guess.
func measure(password string, inputs ...string) *strength {
	if password == "" {
		return nil
	}
	score := identity.PasswordStrength(password, inputs...)
	return &strength{Score: score, Key: "strength." + strconv.Itoa(score)}
}
