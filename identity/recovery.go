package identity

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const (
	recoveryCodes = 10

	// recoveryAlphabet is Crockford's base 32: nothing in it is mistaken for another letter or digit. Twelve of them
	// are 60 bits.
	recoveryAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	recoveryLength   = 12
)

// replaceRecoveryCodes makes ten codes in place of what was there, in the transaction in ctx.
func (d *Directory) replaceRecoveryCodes(ctx context.Context, userID string) ([]string, error) {
	if _, err := d.db.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, userID); err != nil {
		return nil, err
	}
	codes := make([]string, recoveryCodes)
	for i := range codes {
		codes[i] = newRecoveryCode()
		if _, err := d.db.Exec(ctx, `INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)`, userID, d.recoveryHash(userID, codes[i])); err != nil {
			return nil, err
		}
	}
	return codes, nil
}

// newRecoveryCode looks like "4k9f2m-x7qd0t".
func newRecoveryCode() string {
	var raw [recoveryLength]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	for i, b := range raw {
		raw[i] = recoveryAlphabet[b%32] // 256 is a multiple of 32: no bias
	}
	return string(raw[:recoveryLength/2]) + "-" + string(raw[recoveryLength/2:])
}

// recoveryHash is what is kept of a code. It is keyed, so that a stolen table can be searched for no code.
func (d *Directory) recoveryHash(userID, code string) []byte {
	return seal.MAC(d.recoveryKey, userID, normalCode(code, recoveryLength))
}

// normalCode undoes what happens to a code of so many signs on its way: spaces, dashes, capitals, O for 0, I and L for 1. What
// is not a code becomes "", which no code is.
func normalCode(code string, length int) string {
	if len(code) > 8*length {
		return ""
	}
	code = strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '-', r == '\u2010', r == '\u2011', r == '\u2013', r == '\t', r == '\r', r == '\n':
			return -1
		case r == 'o', r == 'O':
			return '0'
		case r == 'i', r == 'I', r == 'l', r == 'L':
			return '1'
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, code)
	if len(code) != length || strings.Trim(code, recoveryAlphabet) != "" {
		return ""
	}
	return code
}
