package ui

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

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

// Bounds on what strength.js may ask.
const (
	strengthBody      = 1 << 10 // bytes
	strengthPerMinute = 240     // from one network; a password takes some ten
)

// strengthAnswer is what strength.js shows. Score is from 0, which hides the meter, to 5.
type strengthAnswer struct {
	Score int    `json:"score"`
	Text  string `json:"text"`
}

// passwordStrength judges a password that is being typed. It is kept nowhere, and belongs to nobody yet.
func (p *Pages) passwordStrength(w http.ResponseWriter, r *http.Request) error {
	if err := p.limit(r.Context(), "strength", strengthPerMinute, time.Minute); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, strengthBody)
	f, err := readForm(r)
	if err != nil {
		return err
	}
	var answer strengthAnswer
	if s := measure(f.value("password"), f.value("email"), f.value("name")); s != nil {
		answer = strengthAnswer{s.Mark, p.locale(r.Context()).text(s.Key)}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(answer)
}
