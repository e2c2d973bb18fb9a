package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

const rsaBits = 2048

// create makes a key and writes it down: as the first of its algorithm, or as the successor of previous, whose end it
// thereby fixes. db.ErrConflict says that another replica has made this generation; the primary key decides.
func (r *Ring) create(ctx context.Context, alg Alg, previous *key, actor string) error {
	private, err := generate(alg)
	if err != nil {
		return err
	}
	kid, public, err := describe(alg, private.Public())
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	sealed := r.c.Seal.Seal(der, purpose(alg, kid))
	clear(der)

	now := r.c.Now()
	generation, action := int64(1), "key.create"
	active := now.Add(-skew) // a replica whose clock is behind must be able to sign with the very first key, too
	if previous != nil {
		generation, action = previous.Generation+1, "key.rotate"
		active = now.Add(r.lead())
	}
	err = r.c.DB.Tx(ctx, func(ctx context.Context) error {
		if _, err := r.c.DB.Exec(ctx, `INSERT INTO signing_keys (alg, generation, kid, public, private, created_at, active_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			alg, generation, kid, public, sealed, db.At(now), db.At(active)); err != nil {
			return err
		}
		if previous != nil {
			if _, err := r.c.DB.Exec(ctx, `UPDATE signing_keys SET retired_at = $1, gone_at = $2 WHERE alg = $3 AND generation = $4`,
				db.At(active), db.At(active.Add(r.c.TokenLife+skew)), alg, previous.Generation); err != nil {
				return err
			}
		}
		r.c.Audit.Record(ctx, audit.Event{Action: action, Actor: actor, Detail: map[string]string{"alg": string(alg), "kid": kid}})
		return nil
	})
	if err != nil {
		return err
	}
	r.c.Log.InfoContext(ctx, "signing key made", "alg", string(alg), "kid", kid, "generation", generation, "active_at", active)
	return nil
}

// erase destroys the private half of keys that are gone, so that a later theft of the database and the master key
// cannot bring them back. The public half stays for id_token_hint.
func (r *Ring) erase(ctx context.Context) error {
	now := r.c.Now()
	erased := false
	for _, k := range r.keys.Load().byKID {
		if k.sign == nil || k.state(now) != Gone {
			continue
		}
		n, err := r.c.DB.Exec(ctx, `UPDATE signing_keys SET private = NULL, gone_at = $1 WHERE kid = $2 AND private IS NOT NULL`,
			db.At(k.GoneAt), k.KID)
		if err != nil {
			return fmt.Errorf("erase signing key %s: %w", k.KID, err)
		}
		erased = true
		if n == 1 {
			r.c.Audit.Record(ctx, audit.Event{Action: "key.gone", Detail: map[string]string{"alg": string(k.Alg), "kid": k.KID}})
		}
	}
	if !erased {
		return nil
	}
	return r.Reload(ctx)
}

// Reload reads the keys again, as other replicas may have made or retired some. Material that is known already is not
// opened twice. On failure the ring keeps what it had.
func (r *Ring) Reload(ctx context.Context) error {
	r.load.Lock()
	defer r.load.Unlock()
	known := r.keys.Load().byKID
	var list []*key
	err := r.c.DB.Query(ctx, func(row db.Scanner) error {
		k := &key{}
		var public string
		var sealed []byte
		var created, active, retired, gone db.Time
		if err := row.Scan(&k.Alg, &k.Generation, &k.KID, &public, &sealed, &created, &active, &retired, &gone); err != nil {
			return err
		}
		k.CreatedAt, k.ActiveAt, k.RetiredAt, k.GoneAt = created.Time, active.Time, retired.Time, gone.Time
		// The longest life of a token may have been raised since the end of this key was written down.
		if end := k.RetiredAt.Add(r.c.TokenLife + skew); sealed != nil && !k.RetiredAt.IsZero() && end.After(k.GoneAt) {
			k.GoneAt = end
		}
		list = append(list, k)
		if old := known[k.KID]; old != nil && old.Alg == k.Alg && (old.sign != nil) == (sealed != nil) {
			k.material = old.material
			return nil
		}
		var err error
		k.material, err = r.open(k, public, sealed)
		return err
	}, `SELECT alg, generation, kid, public, private, created_at, active_at, retired_at, gone_at FROM signing_keys
		ORDER BY alg, generation`)
	if err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	encryption, err := r.readEncryption(ctx, r.keys.Load().encryption)
	if err != nil {
		return fmt.Errorf("load encryption keys: %w", err)
	}
	s, err := newSnapshot(list, encryption, r.c.Now())
	if err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	r.keys.Store(s)
	return nil
}

// open turns a row into a key. A row counts only if its private half was sealed under the master key for this very kid
// and belongs to its public half; so a writer in the database cannot plant a key of his own in the key set.
func (r *Ring) open(k *key, public string, sealed []byte) (*material, error) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON([]byte(public)); err != nil {
		return nil, fmt.Errorf("public half of key %s: %w", k.KID, err)
	}
	kid, _, err := describe(k.Alg, jwk.Key)
	if err != nil {
		return nil, fmt.Errorf("public half of key %s: %w", k.KID, err)
	}
	if kid != k.KID || jwk.KeyID != k.KID || jwk.Algorithm != string(k.Alg) {
		return nil, fmt.Errorf("public half of key %s is another key's", k.KID)
	}
	m := &material{jwk: jwk}
	if sealed == nil {
		return m, nil
	}
	der, err := r.c.Seal.Open(sealed, purpose(k.Alg, k.KID))
	if err != nil {
		return nil, fmt.Errorf("private half of key %s: %w (is this the master key the database was made with?)", k.KID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	clear(der)
	if err != nil {
		return nil, fmt.Errorf("private half of key %s: %w", k.KID, err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private half of key %s is no signing key", k.KID)
	}
	if kid, _, err = describe(k.Alg, private.Public()); err != nil || kid != k.KID {
		return nil, fmt.Errorf("private half of key %s is another key's", k.KID)
	}
	m.sign, m.headers = signer(private), prebuilt(k.Alg, k.KID)
	return m, nil
}

// purpose binds a sealed private half to its row.
func purpose(alg Alg, kid string) string { return "signing key " + string(alg) + " " + kid }

func generate(alg Alg) (crypto.Signer, error) {
	switch alg {
	case RS256, RSAOAEP:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case ES256, ECDHES:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("no algorithm %q", alg)
}

// describe gives the kid (RFC 7638 thumbprint) and the published JWK of a public key that fits alg.
func describe(alg Alg, public crypto.PublicKey) (kid, jwk string, err error) {
	fits := false
	switch p := public.(type) {
	case *rsa.PublicKey:
		fits = (alg == RS256 || alg == RSAOAEP) && p.N.BitLen() >= rsaBits
	case *ecdsa.PublicKey:
		fits = (alg == ES256 || alg == ECDHES) && p.Curve == elliptic.P256()
	case ed25519.PublicKey:
		fits = alg == EdDSA
	}
	if !fits {
		return "", "", errors.New("key does not fit its algorithm")
	}
	k := jose.JSONWebKey{Key: public, Algorithm: string(alg), Use: "sig"}
	if alg == RSAOAEP || alg == ECDHES {
		k.Algorithm, k.Use = "", "enc"
	}
	print, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", "", err
	}
	k.KeyID = base64.RawURLEncoding.EncodeToString(print)
	text, err := k.MarshalJSON()
	return k.KeyID, string(text), err
}
