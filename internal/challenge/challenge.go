// Package challenge makes whoever sends a form pay for it, so that a thousand forms cost a thousand times as much: a Guard
// asks for something before a form counts. It knows neither the forms nor when to ask, and asks no third party.
package challenge

import (
	"context"
	"errors"
)

var (
	// ErrWrong says that an answer is missing, malformed, wrong, for another form or network, or was used before.
	ErrWrong = errors.New("challenge not met")
	// ErrOld says that an answer came too late; a new challenge helps.
	ErrOld = errors.New("challenge is too old")
)

// Guard is implemented by None and Work. A form is any name; a network is what one stranger usually commands.
type Guard interface {
	// New gives a challenge to put into a form, "" if nothing is asked.
	New(form, network string) string
	// Check reports whether the answer meets a challenge that New made for this form and network, and uses it up: each
	// answer counts once, over all replicas.
	Check(ctx context.Context, form, network, answer string) error
}

// None asks for nothing.
type None struct{}

// New implements Guard.
func (None) New(string, string) string { return "" }

// Check implements Guard.
func (None) Check(context.Context, string, string, string) error { return nil }
