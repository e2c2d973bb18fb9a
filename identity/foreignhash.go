package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what other systems have stored
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"math/bits"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
)

// Bounds of a password hash that another system made. Together they say what checking one may cost at most: 128 MiB of
// memory and about a second of one core. They hold when a hash is imported and again whenever it is checked, so that no
// import and no hand in the database can make signing in a burden (hostile cost parameters).
const (
	foreignMemory = 128 << 20 // bytes
	argonWork     = 1 << 20   // KiB times passes
	argonLanes    = 32
	scryptWork    = 1 << 21 // N·r·p
	maxBcrypt     = 14
	minBcrypt     = 4

	minForeignSalt, maxForeignSalt = 4, 128
	minForeignKey, maxForeignKey   = 16, 128
	maxForeignText                 = 1024
)

// pbkdf2Rounds bounds the iterations by digest.
var pbkdf2Rounds = map[string]int{"sha1": 4_000_000, "sha256": 4_000_000, "sha512": 1_500_000}

// HashError says why a password hash of another system cannot be taken over.
type HashError struct{ Reason string }

// Error implements error.
func (e *HashError) Error() string { return e.Reason }

func badHash(format string, args ...any) error { return &HashError{fmt.Sprintf(format, args...)} }

// The ways of hashing that are checked beside our own, by the names they have in foreignHash.String.
const (
	hashBcrypt   = "bcrypt"
	hashArgon2id = "argon2id"
	hashArgon2i  = "argon2i"
	hashPBKDF2   = "pbkdf2-" // and the digest
	hashScrypt   = "scrypt"
	hashFirebase = "firescrypt"
	hashSalted   = "salted-" // and the digest
)

// foreignHash is a password hash that another system made. It lies in users.password_hash in one form of our own,
// whatever it looked like before, until its person signs in and gets an argon2id hash of today's cost.
type foreignHash struct {
	name      string
	n, r, p   int    // bcrypt: n is the cost; argon2: KiB, passes, lanes; pbkdf2: n rounds; scrypt: n is log2 N
	saltFirst bool   // salted digests only
	bcrypt    string // the whole hash
	salt, key []byte
}

// digestOf gives the digest in a name such as pbkdf2-sha256.
func digestOf(name string) (func() hash.Hash, int) {
	switch _, digest, _ := strings.Cut(name, "-"); digest {
	case "sha1":
		return sha1.New, sha1.Size
	case "sha256":
		return sha256.New, sha256.Size
	case "sha512":
		return sha512.New, sha512.Size
	}
	return nil, 0
}

// PBKDF2Hash takes over a PBKDF2 hash; digest is "sha1", "sha256" or "sha512". Only the first block of the key is kept:
// blocks are computed apart from each other, and one is as hard to guess as all.
func PBKDF2Hash(digest string, rounds int, salt, key []byte) (string, error) {
	f := foreignHash{name: hashPBKDF2 + digest, n: rounds, salt: salt, key: key}
	if _, size := digestOf(f.name); size > 0 && len(key) > size {
		f.key = key[:size]
	}
	return f.checked()
}

// ArgonHash takes over an argon2 hash of version 1.3; variant is "id" or "i".
func ArgonHash(variant string, memory, passes, lanes int, salt, key []byte) (string, error) {
	return foreignHash{name: "argon2" + variant, n: memory, r: passes, p: lanes, salt: salt, key: key}.checked()
}

// ScryptHash takes over a scrypt hash (RFC 7914) with cost n, a power of two.
func ScryptHash(n, r, p int, salt, key []byte) (string, error) {
	if n < 2 || n&(n-1) != 0 {
		return "", badHash("scrypt cost %d is not a power of two", n)
	}
	if len(key) > 64 { // its last step is PBKDF2, see there
		key = key[:64]
	}
	return foreignHash{name: hashScrypt, n: bits.TrailingZeros(uint(n)), r: r, p: p, salt: salt, key: key}.checked()
}

// FirebaseParameters are the password hash parameters of a Firebase project.
type FirebaseParameters struct {
	SignerKey, SaltSeparator []byte
	Rounds, MemoryCost       int
}

// FirebaseHash takes over a hash of Firebase's own scrypt: the project's signer key, encrypted by AES-256-CTR under what
// scrypt makes of the password. What is kept is the key stream, hash xor signer key. It tells the same passwords apart, and
// the signer key need not lie in the database.
func FirebaseHash(project FirebaseParameters, salt, key []byte) (string, error) {
	if len(key) != len(project.SignerKey) {
		return "", badHash("Firebase hash of %d bytes, where the signer key has %d", len(key), len(project.SignerKey))
	}
	stream := make([]byte, len(key))
	subtle.XORBytes(stream, key, project.SignerKey)
	return foreignHash{
		name: hashFirebase, n: project.MemoryCost, r: project.Rounds, p: 1,
		salt: append(salt[:len(salt):len(salt)], project.SaltSeparator...), key: stream,
	}.checked()
}

// SaltedHash takes over one round of a digest ("sha1", "sha256", "sha512") over password and salt, as LDAP directories
// have them (SSHA).
func SaltedHash(digest string, saltFirst bool, salt, key []byte) (string, error) {
	return foreignHash{name: hashSalted + digest, saltFirst: saltFirst, salt: salt, key: key}.checked()
}

func (f foreignHash) checked() (string, error) {
	if err := f.check(); err != nil {
		return "", err
	}
	return f.String(), nil
}

// check holds the bounds.
func (f foreignHash) check() error {
	if f.name == hashBcrypt {
		if f.n < minBcrypt || f.n > maxBcrypt {
			return badHash("bcrypt cost %d is not between %d and %d", f.n, minBcrypt, maxBcrypt)
		}
		return nil
	}
	// A short key is matched by many passwords, an empty one by all.
	if len(f.key) < minForeignKey || len(f.key) > maxForeignKey {
		return badHash("hash of %d bytes, not of %d to %d", len(f.key), minForeignKey, maxForeignKey)
	}
	if len(f.salt) < minForeignSalt || len(f.salt) > maxForeignSalt {
		return badHash("salt of %d bytes, not of %d to %d", len(f.salt), minForeignSalt, maxForeignSalt)
	}
	switch {
	case f.name == hashArgon2id || f.name == hashArgon2i:
		if f.p < 1 || f.p > argonLanes || f.r < 1 || f.n < 8*f.p || f.n > foreignMemory>>10 || f.r > argonWork/f.n {
			return badHash("argon2 cost m=%d,t=%d,p=%d is out of bounds", f.n, f.r, f.p)
		}
	case f.name == hashScrypt || f.name == hashFirebase:
		if f.n < 1 || f.n > 20 || f.r < 1 || f.r > 64 || f.p < 1 || f.p > 64 || 128*f.r<<f.n > foreignMemory || f.r*f.p<<f.n > scryptWork {
			return badHash("scrypt cost N=2^%d,r=%d,p=%d is out of bounds", f.n, f.r, f.p)
		}
	case strings.HasPrefix(f.name, hashPBKDF2):
		digest := f.name[len(hashPBKDF2):]
		if pbkdf2Rounds[digest] == 0 {
			return badHash("PBKDF2 with %.20q is not known", digest)
		}
		if f.n < 1 || f.n > pbkdf2Rounds[digest] {
			return badHash("PBKDF2 with %d rounds is out of bounds (%d)", f.n, pbkdf2Rounds[digest])
		}
		if _, size := digestOf(f.name); len(f.key) > size {
			return badHash("hash of %d bytes, not of %d to %d", len(f.key), minForeignKey, size)
		}
	case strings.HasPrefix(f.name, hashSalted):
		if _, size := digestOf(f.name); size == 0 || len(f.key) != size {
			return badHash("hash of %d bytes does not fit to %.20q", len(f.key), f.name[len(hashSalted):])
		}
	default:
		return badHash("hashing by %.20q is not known", f.name)
	}
	return nil
}

// String gives the form in which the hash is kept.
func (f foreignHash) String() string {
	var cost string
	switch {
	case f.name == hashBcrypt:
		return f.bcrypt
	case f.name == hashArgon2id || f.name == hashArgon2i:
		cost = fmt.Sprintf("v=%d$m=%d,t=%d,p=%d", argon2.Version, f.n, f.r, f.p)
	case f.name == hashScrypt || f.name == hashFirebase:
		cost = fmt.Sprintf("ln=%d,r=%d,p=%d", f.n, f.r, f.p)
	case strings.HasPrefix(f.name, hashPBKDF2):
		cost = fmt.Sprintf("i=%d", f.n)
	case f.saltFirst:
		cost = "first"
	default:
		cost = "last"
	}
	return "$" + f.name + "$" + cost + "$" + base64.RawStdEncoding.EncodeToString(f.salt) + "$" + base64.RawStdEncoding.EncodeToString(f.key)
}

// matches reports whether this is the hash of password. The password is taken as it was typed: so did the system that
// made the hash.
func (f foreignHash) matches(password string) bool {
	if f.name == hashBcrypt {
		return bcrypt.CompareHashAndPassword([]byte(f.bcrypt), []byte(password)) == nil
	}
	key, err := f.derive(password)
	return err == nil && len(key) >= minForeignKey && subtle.ConstantTimeCompare(key, f.key) == 1
}

func (f foreignHash) derive(password string) ([]byte, error) {
	size := len(f.key)
	newDigest, _ := digestOf(f.name)
	switch {
	case f.name == hashArgon2id:
		return argon2.IDKey([]byte(password), f.salt, uint32(f.r), uint32(f.n), uint8(f.p), uint32(size)), nil //nolint:gosec // bounded by check
	case f.name == hashArgon2i:
		return argon2.Key([]byte(password), f.salt, uint32(f.r), uint32(f.n), uint8(f.p), uint32(size)), nil //nolint:gosec // bounded by check
	case f.name == hashScrypt:
		return scrypt.Key([]byte(password), f.salt, 1<<f.n, f.r, f.p, size)
	case f.name == hashFirebase:
		inner, err := scrypt.Key([]byte(password), f.salt, 1<<f.n, f.r, f.p, 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(inner)
		if err != nil {
			return nil, err
		}
		stream := make([]byte, size)
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(stream, stream)
		return stream, nil
	case strings.HasPrefix(f.name, hashPBKDF2):
		return pbkdf2.Key(newDigest, password, f.salt, f.n, size)
	}
	sum := newDigest()
	if f.saltFirst {
		_, _ = sum.Write(f.salt)
	}
	_, _ = sum.Write([]byte(password))
	if !f.saltFirst {
		_, _ = sum.Write(f.salt)
	}
	return sum.Sum(nil), nil
}

// bcryptText is what bcrypt writes in place of base64.
var bcryptText = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

const bcryptHead = len("$2b$10$") + 22 // with the salt

// decoy gives a hash of the same cost that no password has.
func (f foreignHash) decoy() foreignHash {
	if f.name == hashBcrypt {
		var key [23]byte
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		f.bcrypt = f.bcrypt[:bcryptHead] + bcryptText.EncodeToString(key[:])
		return f
	}
	f.key = make([]byte, len(f.key))
	_, _ = rand.Read(f.key) // never fails (crypto/rand)
	return f
}

var bcryptPattern = regexp.MustCompile(`^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$`)

// parseForeign reads what foreignHash.String wrote, and nothing else.
func parseForeign(s string) (foreignHash, error) {
	if len(s) > maxForeignText {
		return foreignHash{}, errPHC
	}
	if m := bcryptPattern.FindStringSubmatch(s); m != nil {
		cost, _ := strconv.Atoi(m[1]) // digits by the pattern
		f := foreignHash{name: hashBcrypt, n: cost, bcrypt: s}
		return f, f.check()
	}
	parts := strings.Split(s, "$")
	if len(parts) < 5 || parts[0] != "" {
		return foreignHash{}, errPHC
	}
	f := foreignHash{name: parts[1]}
	cost := parts[2 : len(parts)-2]
	if strings.HasPrefix(f.name, "argon2") {
		if cost[0] != fmt.Sprintf("v=%d", argon2.Version) || len(cost) != 2 {
			return foreignHash{}, errPHC
		}
		cost = cost[1:]
	}
	if len(cost) != 1 {
		return foreignHash{}, errPHC
	}
	f.saltFirst = cost[0] == "first"
	for field := range strings.SplitSeq(cost[0], ",") {
		name, text, _ := strings.Cut(field, "=")
		n, _ := strconv.Atoi(text) // compared with what String writes below
		switch name {
		case "m", "ln", "i":
			f.n = n
		case "t", "r":
			f.r = n
		case "p":
			f.p = n
		}
	}
	var err1, err2 error
	f.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[len(parts)-2])
	f.key, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[len(parts)-1])
	if err1 != nil || err2 != nil {
		return foreignHash{}, errPHC
	}
	if err := f.check(); err != nil {
		return foreignHash{}, err
	}
	if f.String() != s {
		return foreignHash{}, errPHC
	}
	return f, nil
}
