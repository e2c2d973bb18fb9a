package main

import (
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

type keysCommands struct {
	List   keysList   `cmd:"" help:"List the signing and encryption keys and what becomes of them when."`
	Rotate keysRotate `cmd:"" help:"Bring in new keys. They are published at once and sign as soon as every app can know them."`
	Reseal keysReseal `cmd:"" help:"Bring everything that older master keys have sealed under the newest one, and say when they can be dropped."`
}

// keyTimes must be those of serve, because they decide when a new key signs.
type keyTimes struct {
	KeyRotation time.Duration `env:"GATEHOUSE_KEY_ROTATION" default:"90d" placeholder:"TIME" help:"As given to serve. [${default}]"`
	JWKSCache   time.Duration `name:"jwks-cache" env:"GATEHOUSE_JWKS_CACHE" default:"1h" placeholder:"TIME" help:"As given to serve. [${default}]"`
}

func withRing(t *terminal, s *storage, times keyTimes, f func(ring *keys.Ring) error) error {
	return withData(t, s, func(d *data) error {
		ring, err := openRing(t.ctx, d, &settings{KeyRotation: times.KeyRotation, JWKSCache: times.JWKSCache})
		if err != nil {
			return err
		}
		defer ring.Close()
		return f(ring)
	})
}

// keyRecord is a key as the commands print one.
type keyRecord struct {
	Alg        keys.Alg  `json:"alg"`
	Generation int64     `json:"generation"`
	KID        string    `json:"kid"`
	State      string    `json:"state"`
	CreatedAt  time.Time `json:"created_at"`
	ActiveAt   time.Time `json:"active_at"`
	RetiredAt  time.Time `json:"retired_at,omitzero"`
	GoneAt     time.Time `json:"gone_at,omitzero"`
}

func printKeys(t *terminal, list []keys.Key) error {
	records := make([]keyRecord, 0, len(list))
	for _, k := range list {
		records = append(records, keyRecord{k.Alg, k.Generation, k.KID, k.State, k.CreatedAt, k.ActiveAt, k.RetiredAt, k.GoneAt})
	}
	return t.print(records, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "ALG\tNO\tSTATE\tKID\tSIGNS FROM\tUNTIL\tGONE")
		for _, k := range records {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", k.Alg, k.Generation, k.State, k.KID, when(k.ActiveAt), when(k.RetiredAt), when(k.GoneAt))
		}
	})
}

type keysList struct {
	Times   keyTimes `embed:""`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *keysList) Run(t *terminal) error {
	return withRing(t, &c.Storage, c.Times, func(ring *keys.Ring) error {
		list, err := ring.List(t.ctx)
		if err != nil {
			return err
		}
		return printKeys(t, list)
	})
}

type keysRotate struct {
	Alg     []keys.Alg `help:"RS256, ES256, EdDSA, or RSA-OAEP, ECDH-ES for the keys that apps encrypt to; repeat. [all]" placeholder:"ALG" enum:"RS256,ES256,EdDSA,RSA-OAEP,ECDH-ES"`
	Times   keyTimes   `embed:""`
	Storage storage    `embed:""`
}

// Run implements the command.
func (c *keysRotate) Run(t *terminal) error {
	return withRing(t, &c.Storage, c.Times, func(ring *keys.Ring) error {
		list, err := ring.Rotate(t.ctx, c.Alg...)
		if err != nil {
			return err
		}
		return printKeys(t, list)
	})
}
