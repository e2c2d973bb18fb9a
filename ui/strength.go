package ui

import (
	"strconv"

	"github.com/gatehouse-id/gatehouse/identity"
)

// strength is how hard a typed password is to guess.
type strength struct {
	Mark int    // 1 to 5: even the worst password shows on the scale
	Key  string // locale key of the mark in words
}

// measure judges a password that came back with a form; nil for an empty one. inputs are the person's own name and address,
// which make a password easier to guess.
func measure(password string, inputs ...string) *strength {
	if password == "" {
		return nil
	}
	score := identity.PasswordStrength(password, inputs...)
	return &strength{Mark: score + 1, Key: "strength." + strconv.Itoa(score)}
}
