package identity

import (
	"net/netip"
	"testing"
	"time"
)

// Whoever rents addresses by the hundred gets them side by side; each of them alone stays below the limit of an address.
func TestAttackPasswordsGuessedFromNeighbouringAddresses(t *testing.T) {
	t.Parallel()
	for name, near := range map[string]func(i byte) netip.Addr{
		"IPv4 /24":     func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, i}) },
		"IPv4 in IPv6": func(i byte) netip.Addr { return netip.AddrFrom16(netip.AddrFrom4([4]byte{198, 51, 100, i}).As16()) },
		"IPv6 /48 by /64": func(i byte) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, i, 9: i, 15: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, Config{Limits: Limits{NetworkTries: 6, AddressTries: 3}}, func(t *testing.T, w *world) {
				for i := range byte(6) {
					_, err := w.CheckPassword(t.Context(), "nobody@example.com", "x", near(i))
					wantErr(t, "guess within the limit", err, ErrCredentials)
				}
				_, err := w.CheckPassword(t.Context(), "nobody@example.com", "x", near(200))
				wantLimit(t, "guess from one more neighbour", err)
				_, err = w.CheckPassword(t.Context(), "nobody@example.com", "x", home)
				wantErr(t, "somebody far away", err, ErrCredentials)
				w.pass(15 * time.Minute) // the count runs out by itself
				_, err = w.CheckPassword(t.Context(), "nobody@example.com", "x", near(200))
				wantErr(t, "later", err, ErrCredentials)
			})
		})
	}
}

func TestLinkLifeIsASetting(t *testing.T) {
	eachWith(t, Config{LinkLife: LinkLife{Verify: time.Hour, Reset: 2 * time.Minute, Change: 3 * time.Minute}}, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		for purpose, life := range map[Purpose]time.Duration{Verify: time.Hour, Reset: 2 * time.Minute, ChangeEmail: 3 * time.Minute} {
			token, err := w.NewLink(t.Context(), u.ID, purpose, "")
			wantNil(t, "new link", err)
			w.pass(life - time.Second)
			_, err = w.CheckLink(t.Context(), token, purpose)
			wantNil(t, "in time", err)
			w.pass(time.Second)
			_, err = w.CheckLink(t.Context(), token, purpose)
			wantErr(t, "too late", err, ErrLink)
		}
	})
}
