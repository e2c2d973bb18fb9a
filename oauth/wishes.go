package oauth

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// SignInWishes is what holds for a client's requests that do not say it themselves (OpenID Connect Registration §2).
type SignInWishes struct {
	// What is enough to sign in for the app: the weakest of these classes. Unlike in the specification, a request can ask for more, but
	// not for less.
	DefaultACRValues []string `json:"default_acr_values,omitempty"`
	DefaultMaxAge    *int64   `json:"default_max_age,omitempty"`   // seconds; 0: people sign in each time
	RequireAuthTime  bool     `json:"require_auth_time,omitempty"` // every ID token has an auth_time anyway
}

func (w SignInWishes) validate() error {
	for i, acr := range w.DefaultACRValues {
		if !slices.Contains(identity.ACRs(), acr) || slices.Contains(w.DefaultACRValues[:i], acr) {
			return fmt.Errorf("default_acr_values %q: use each of %s at most once", acr, strings.Join(identity.ACRs(), ", "))
		}
	}
	if w.DefaultMaxAge != nil && (*w.DefaultMaxAge < 0 || *w.DefaultMaxAge > math.MaxInt32) {
		return fmt.Errorf("default_max_age: give a number of seconds, 0 or more")
	}
	return nil
}

// known leaves out the classes that this server has no idea of: they are wishes.
func (w SignInWishes) known() SignInWishes {
	var acrs []string
	for _, acr := range w.DefaultACRValues {
		if slices.Contains(identity.ACRs(), acr) && !slices.Contains(acrs, acr) {
			acrs = append(acrs, acr)
		}
	}
	w.DefaultACRValues = acrs
	return w
}

// maxAge is the time after which people sign in anew, unless a request says otherwise; -1 for none.
func (w SignInWishes) maxAge() time.Duration {
	if w.DefaultMaxAge == nil {
		return -1
	}
	return time.Duration(*w.DefaultMaxAge) * time.Second
}
