package identity

import (
	"crypto/sha1" //nolint:gosec // what other systems have stored
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strconv"
	"strings"
)

// ReadHash takes over a password hash in one of the forms that other systems write it in: bcrypt ($2a$, $2b$, $2y$), the
// PHC strings of argon2i and argon2id, PBKDF2 as Ory, passlib and Django write it, scrypt as Ory and passlib write it,
// Ory's $firescrypt$, and LDAP's {SSHA}, {SSHA256} and {SSHA512}. Anything else is a *HashError. The result is what
// Arrival.PasswordHash takes.
func ReadHash(text string) (string, error) {
	if len(text) > maxForeignText {
		return "", badHash("hash of %d characters", len(text))
	}
	for _, wrap := range []string{"{CRYPT}", "{BCRYPT}", "{ARGON2}", "{bcrypt}"} {
		if rest, ok := strings.CutPrefix(text, wrap); ok && strings.HasPrefix(rest, "$") {
			text = rest
		}
	}
	switch name, _, _ := strings.Cut(strings.TrimPrefix(text, "$"), "$"); {
	case strings.HasPrefix(text, "{SSHA"):
		return readSSHA(text)
	case strings.HasPrefix(text, "pbkdf2_"):
		return readDjango(text)
	case !strings.HasPrefix(text, "$"):
		return "", badHash("the form of the hash is not known")
	case name == "2a" || name == "2b" || name == "2y":
		f, err := parseForeign(text)
		if err != nil {
			if f.name == hashBcrypt {
				return "", err
			}
			return "", badHash("malformed bcrypt hash")
		}
		return f.String(), nil
	case name == "argon2id" || name == "argon2i":
		return readArgon(text)
	case name == "pbkdf2" || strings.HasPrefix(name, "pbkdf2-"):
		return readPBKDF2(text)
	case name == "scrypt":
		return readScrypt(text)
	case name == "firescrypt":
		return readFirebase(text)
	default:
		return "", badHash("hashing by %.20q is not known", name)
	}
}

func readSSHA(text string) (string, error) {
	kind, rest, _ := strings.Cut(text[1:], "}")
	raw, err := DecodeBase64(rest)
	if err != nil {
		return "", err
	}
	digest, size := "sha1", sha1.Size
	switch kind {
	case "SSHA":
	case "SSHA256":
		digest, size = "sha256", sha256.Size
	case "SSHA512":
		digest, size = "sha512", sha512.Size
	default:
		return "", badHash("hashing by %.20q is not known", kind)
	}
	if len(raw) < size {
		return "", badHash("hash of %d bytes does not fit to %s", len(raw), kind)
	}
	return SaltedHash(digest, false, raw[size:], raw[:size])
}

// readDjango reads pbkdf2_sha256$600000$salt$key, in which the salt is text.
func readDjango(text string) (string, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 4 {
		return "", badHash("malformed PBKDF2 hash")
	}
	rounds, err1 := strconv.Atoi(parts[1])
	key, err2 := DecodeBase64(parts[3])
	if err1 != nil || err2 != nil {
		return "", badHash("malformed PBKDF2 hash")
	}
	return PBKDF2Hash(strings.TrimPrefix(parts[0], "pbkdf2_"), rounds, []byte(parts[2]), key)
}

// fields cuts $name$parameters$salt$key and the like apart: the parameters by name, what follows as bytes.
func fields(text string, blobs int) (parameters map[string]int, raw [][]byte, err error) {
	parts := strings.Split(text, "$")[2:]
	parameters = map[string]int{}
	for len(parts) > blobs {
		for field := range strings.SplitSeq(parts[0], ",") {
			name, value, named := strings.Cut(field, "=")
			if !named {
				name, value = "", field
			}
			n, err := strconv.Atoi(value)
			if _, twice := parameters[name]; twice || err != nil {
				return nil, nil, badHash("malformed parameters of a hash")
			}
			parameters[name] = n
		}
		parts = parts[1:]
	}
	for _, p := range parts {
		b, err := DecodeBase64(p)
		if err != nil {
			return nil, nil, err
		}
		raw = append(raw, b)
	}
	if len(raw) != blobs || len(parameters) == 0 {
		return nil, nil, badHash("malformed hash")
	}
	return parameters, raw, nil
}

func readArgon(text string) (string, error) {
	p, raw, err := fields(text, 2)
	if err != nil {
		return "", err
	}
	if p["v"] != 19 {
		return "", badHash("argon2 of another version than 1.3")
	}
	return ArgonHash(strings.TrimPrefix(strings.Split(text, "$")[1], "argon2"), p["m"], p["t"], p["p"], raw[0], raw[1])
}

// readPBKDF2 reads $pbkdf2-sha256$i=600000,l=32$salt$key and passlib's $pbkdf2-sha256$600000$salt$key, where
// $pbkdf2$ means SHA-1.
func readPBKDF2(text string) (string, error) {
	p, raw, err := fields(text, 2)
	if err != nil {
		return "", err
	}
	_, digest, named := strings.Cut(strings.Split(text, "$")[1], "-")
	if !named {
		digest = "sha1"
	}
	return PBKDF2Hash(digest, max(p["i"], p[""]), raw[0], raw[1])
}

// readScrypt reads $scrypt$ln=…,r=…,p=…$salt$key. In ln stands log2 N (passlib) or N itself (Ory); no N that deserves the
// name is below 32.
func readScrypt(text string) (string, error) {
	p, raw, err := fields(text, 2)
	if err != nil {
		return "", err
	}
	n := p["ln"]
	if 0 < n && n < 32 {
		n = 1 << n
	}
	return ScryptHash(n, p["r"], p["p"], raw[0], raw[1])
}

// readFirebase reads $firescrypt$ln=…,r=…,p=1$salt$key$salt separator$signer key.
func readFirebase(text string) (string, error) {
	p, raw, err := fields(text, 4)
	if err != nil {
		return "", err
	}
	if p["p"] != 1 {
		return "", badHash("Firebase hash with p=%d, which is always 1", p["p"])
	}
	return FirebaseHash(FirebaseParameters{SignerKey: raw[3], SaltSeparator: raw[2], Rounds: p["r"], MemoryCost: p["ln"]}, raw[0], raw[1])
}

var plainBase64 = strings.NewReplacer("-", "+", "_", "/", ".", "+")

// DecodeBase64 reads any of the alphabets in which hashes and salts are written, padded or not.
func DecodeBase64(s string) ([]byte, error) {
	s = plainBase64.Replace(strings.TrimRight(s, "="))
	if strings.ContainsAny(s, "\r\n") {
		return nil, badHash("malformed base64")
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, badHash("malformed base64")
	}
	return b, nil
}
