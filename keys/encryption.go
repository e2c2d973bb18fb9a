package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses a member that stands twice

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// The families of algorithms that others encrypt to this server with. The published keys name no algorithm of their own, so that one key
// serves all of a family.
const (
	RSAOAEP Alg = "RSA-OAEP"
	ECDHES  Alg = "ECDH-ES"
)

var families = [...]Alg{RSAOAEP, ECDHES}

// KeyAlgs and ContentAlgs are the values of "alg" and "enc" (RFC 7518 §4.1, §5.1) of messages that this server makes and opens.
// RSA1_5 is not among them (RFC 8725 §3.2, padding oracles), nor are passwords (PBES2, whose sender names the work) and shared keys.
var (
	KeyAlgs     = []string{"RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"}
	ContentAlgs = []string{"A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"}
)

// ErrDecrypt says that a message was not encrypted to this server, or by an algorithm that is not allowed.
var ErrDecrypt = errors.New("message not encrypted to this server")

const (
	// MaxEncrypted bounds the text that Decrypt looks at.
	MaxEncrypted = 32 << 10
	// keepsOpening is how long a key that is not published any more opens what was encrypted to it.
	keepsOpening = 7 * 24 * time.Hour
	// keysTried bounds the work for a message that names no key.
	keysTried = 2
)

// encryptionKey is a row of encryption_keys with its material.
type encryptionKey struct {
	Key
	jwk     jose.JSONWebKey // public
	private crypto.PrivateKey
}

func (k *encryptionKey) state(now time.Time) string {
	switch {
	case !k.GoneAt.IsZero() && !now.Before(k.GoneAt):
		return Gone
	case !k.RetiredAt.IsZero() && !now.Before(k.RetiredAt):
		return Retired
	}
	return Active
}

// familyOf is the family of a key management algorithm.
func familyOf(alg string) Alg {
	if strings.HasPrefix(alg, string(RSAOAEP)) {
		return RSAOAEP
	}
	return ECDHES
}

// Decrypt opens a compact JWE (RFC 7516) that was encrypted to a key of this server, and returns what is in it and of what type that is
// (cty). Who encrypted it nobody can tell: what is inside must prove that itself.
func (r *Ring) Decrypt(ctx context.Context, token string) (payload []byte, cty string, err error) {
	if len(token) > MaxEncrypted {
		return nil, "", fmt.Errorf("%w: too long", ErrDecrypt)
	}
	head, err := encryptionHeader(token)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.KeyAlgorithm(head.Alg)}, []jose.ContentEncryption{jose.ContentEncryption(head.Enc)})
	if err != nil {
		return nil, "", fmt.Errorf("%w: malformed", ErrDecrypt)
	}
	for _, k := range r.openers(ctx, head) {
		if payload, err := jwe.Decrypt(k.private); err == nil {
			return payload, head.Cty, nil
		}
	}
	return nil, "", fmt.Errorf("%w: no key opens it", ErrDecrypt)
}

type jweHeader struct {
	Alg  string          `json:"alg"`
	Enc  string          `json:"enc"`
	KID  string          `json:"kid"`
	Cty  string          `json:"cty"`
	Zip  json.RawMessage `json:"zip"`
	Crit json.RawMessage `json:"crit"`
}

// encryptionHeader reads the header of a JWE. What was compressed is refused: a few bytes would become megabytes, and the length of
// what is secret would show (RFC 8725 §3.6).
func encryptionHeader(token string) (jweHeader, error) {
	var h jweHeader
	segment, rest, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil || strings.Count(rest, ".") != 3 || len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &h) != nil {
		return h, errors.New("malformed")
	}
	switch {
	case !slices.Contains(KeyAlgs, h.Alg), !slices.Contains(ContentAlgs, h.Enc):
		return h, errors.New("algorithm not allowed")
	case h.Zip != nil:
		return h, errors.New("compressed")
	case h.Crit != nil:
		return h, errors.New("critical header member")
	}
	return h, nil
}

// openers lists the keys that may open a message: the one it names, or else the newest of the family.
func (r *Ring) openers(ctx context.Context, h jweHeader) []*encryptionKey {
	find := func() (fitting []*encryptionKey) {
		now := r.c.Now()
		for _, k := range slices.Backward(r.keys.Load().encryption) {
			if k.Alg == familyOf(h.Alg) && (h.KID == "" || h.KID == k.KID) && k.state(now) != Gone && len(fitting) < keysTried {
				fitting = append(fitting, k)
			}
		}
		return fitting
	}
	fitting := find()
	if len(fitting) > 0 || !r.mayLook() {
		return fitting
	}
	if err := r.Reload(ctx); err != nil { // another replica may have made it within the last minute
		r.c.Log.WarnContext(ctx, "keys not read again", "err", err)
	}
	return find()
}

// mayLook paces reloads that strangers can cause by naming keys that do not exist.
func (r *Ring) mayLook() bool {
	now, last := r.c.Now().UnixNano(), r.looked.Load()
	return now-last >= int64(retryAfter) && r.looked.CompareAndSwap(last, now)
}

// encrypts makes the first encryption keys where there are none. It is left to whoever needs them first, so that a server starts without
// looking for another RSA key.
func (r *Ring) encrypts(ctx context.Context) {
	if r.keys.Load().complete() {
		return
	}
	r.making.Lock()
	defer r.making.Unlock()
	if r.keys.Load().complete() || r.c.Now().Sub(r.tried) < retryAfter {
		return
	}
	r.tried = r.c.Now()
	for _, alg := range families {
		if r.keys.Load().newestEncryption(alg) != nil {
			continue
		}
		if err := r.succeedEncryption(ctx, alg, nil, ""); err != nil {
			r.c.Log.ErrorContext(ctx, "encryption key not made", "alg", string(alg), "err", err)
			return
		}
	}
}

func (s *snapshot) complete() bool {
	return s.newestEncryption(RSAOAEP) != nil && s.newestEncryption(ECDHES) != nil
}

// newestEncryption is the key of the highest generation, or nil.
func (s *snapshot) newestEncryption(alg Alg) *encryptionKey {
	for _, k := range slices.Backward(s.encryption) {
		if k.Alg == alg {
			return k
		}
	}
	return nil
}

// succeedEncryption makes a key that is published at once, and takes the one before out of the key set: others may encrypt to that for as
// long as they keep the set, and it opens what they send.
func (r *Ring) succeedEncryption(ctx context.Context, alg Alg, previous *encryptionKey, actor string) error {
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
	sealed := r.c.Seal.Seal(der, encryptionPurpose(alg, kid))
	clear(der)

	now := r.c.Now()
	generation, action := int64(1), "key.create"
	if previous != nil {
		generation, action = previous.Generation+1, "key.rotate"
	}
	err = r.c.DB.Tx(ctx, func(ctx context.Context) error {
		if _, err := r.c.DB.Exec(ctx, `INSERT INTO encryption_keys (alg, generation, kid, public, private, created_at)
			VALUES ($1, $2, $3, $4, $5, $6)`, alg, generation, kid, public, sealed, db.At(now)); err != nil {
			return err
		}
		if previous != nil {
			if _, err := r.c.DB.Exec(ctx, `UPDATE encryption_keys SET retired_at = $1, gone_at = $2 WHERE alg = $3 AND generation = $4`,
				db.At(now), db.At(now.Add(r.c.CachePeriod+propagation+keepsOpening)), alg, previous.Generation); err != nil {
				return err
			}
		}
		r.c.Audit.Record(ctx, audit.Event{Action: action, Actor: actor, Detail: map[string]string{"alg": string(alg), "kid": kid}})
		return nil
	})
	if err != nil && !errors.Is(err, db.ErrConflict) { // another replica was faster: its key is taken over
		return fmt.Errorf("make %s key: %w", alg, err)
	}
	if err == nil {
		r.c.Log.InfoContext(ctx, "encryption key made", "alg", string(alg), "kid", kid, "generation", generation)
	}
	return r.Reload(ctx)
}

// maintainEncryption keeps the schedule of the encryption keys and erases those that are gone.
func (r *Ring) maintainEncryption(ctx context.Context) error {
	r.encrypts(ctx)
	var failed []error
	for _, alg := range families {
		if newest := r.keys.Load().newestEncryption(alg); newest != nil && !r.c.Now().Before(newest.CreatedAt.Add(r.c.Rotation)) {
			failed = append(failed, r.succeedEncryption(ctx, alg, newest, ""))
		}
	}
	erased := false
	for _, k := range r.keys.Load().encryption {
		if k.state(r.c.Now()) != Gone {
			continue
		}
		n, err := r.c.DB.Exec(ctx, `DELETE FROM encryption_keys WHERE alg = $1 AND generation = $2`, k.Alg, k.Generation)
		if err != nil {
			failed = append(failed, fmt.Errorf("erase encryption key %s: %w", k.KID, err))
			continue
		}
		erased = true
		if n == 1 {
			r.c.Audit.Record(ctx, audit.Event{Action: "key.gone", Detail: map[string]string{"alg": string(k.Alg), "kid": k.KID}})
		}
	}
	if erased {
		failed = append(failed, r.Reload(ctx))
	}
	return errors.Join(failed...)
}

// readEncryption reads the rows. As with signing keys a row counts only if its private half was sealed under the master key for this very
// kid and belongs to its public half.
func (r *Ring) readEncryption(ctx context.Context, known []*encryptionKey) ([]*encryptionKey, error) {
	var list []*encryptionKey
	err := r.c.DB.Query(ctx, func(row db.Scanner) error {
		k := &encryptionKey{}
		var public string
		var sealed []byte
		var created, retired, gone db.Time
		if err := row.Scan(&k.Alg, &k.Generation, &k.KID, &public, &sealed, &created, &retired, &gone); err != nil {
			return err
		}
		k.CreatedAt, k.ActiveAt, k.RetiredAt, k.GoneAt = created.Time, created.Time, retired.Time, gone.Time
		list = append(list, k)
		if i := slices.IndexFunc(known, func(old *encryptionKey) bool { return old.KID == k.KID && old.Alg == k.Alg }); i >= 0 {
			k.jwk, k.private = known[i].jwk, known[i].private
			return nil
		}
		return r.openEncryption(k, public, sealed)
	}, `SELECT alg, generation, kid, public, private, created_at, retired_at, gone_at FROM encryption_keys ORDER BY alg, generation`)
	return list, err
}

func (r *Ring) openEncryption(k *encryptionKey, public string, sealed []byte) error {
	der, err := r.c.Seal.Open(sealed, encryptionPurpose(k.Alg, k.KID))
	if err != nil {
		return fmt.Errorf("private half of key %s: %w (is this the master key the database was made with?)", k.KID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	clear(der)
	if err != nil {
		return fmt.Errorf("private half of key %s: %w", k.KID, err)
	}
	private, ok := parsed.(crypto.Signer) // all kinds of keys here have a public half
	if !ok {
		return fmt.Errorf("private half of key %s is of an unknown kind", k.KID)
	}
	kid, text, err := describe(k.Alg, private.Public())
	if err != nil || kid != k.KID || text != public {
		return fmt.Errorf("private half of key %s is another key's", k.KID)
	}
	k.private = private
	return k.jwk.UnmarshalJSON([]byte(public))
}

// encryptionPurpose binds a sealed private half to its row.
func encryptionPurpose(alg Alg, kid string) string {
	return "encryption key " + string(alg) + " " + kid
}
