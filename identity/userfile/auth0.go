package userfile

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strconv"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// fromAuth0 reads a user of a bulk export, of a file for Auth0's bulk import, or of the export of password hashes.
func fromAuth0(b *builder, object map[string]any) {
	b.ExternalID = plain(take(object, "user_id"))
	if id := objectID(take(object, "_id")); b.ExternalID == "" && id != "" {
		b.ExternalID = "auth0|" + id
	}
	b.Email = plain(take(object, "email"))
	b.EmailVerified = b.bool("email_verified", take(object, "email_verified"))
	b.Disabled = b.bool("blocked", take(object, "blocked"))
	b.CreatedAt = b.time("created_at", take(object, "created_at"))
	b.PasswordChangedAt = b.time("password_set_date", date(take(object, "password_set_date")))
	b.Profile.PhoneNumberVerified = b.bool("phone_verified", take(object, "phone_verified"))
	if username := plain(take(object, "username")); strings.Contains(username, "@") {
		b.leave("username")
	} else {
		b.set("preferred_username", username)
	}
	text := plain(take(object, "passwordHash"))
	if text == "" {
		text = plain(take(object, "password_hash"))
	}
	custom, _ := take(object, "custom_password_hash").(map[string]any)
	switch {
	case text != "":
		b.hash(identity.ReadHash(text))
	case custom != nil:
		b.hash(auth0Hash(custom))
	case b.o.Hashes != nil:
		text, changed, err := b.o.Hashes.find(b.ExternalID)
		if err != nil {
			b.wrong("password_hash", "%v", err)
		} else if text != "" {
			b.hash(identity.ReadHash(text))
			b.PasswordChangedAt = b.time("password_set_date", changed)
		}
	}
	factors, _ := take(object, "mfa_factors").([]any)
	for _, f := range factors {
		f, _ := f.(map[string]any)
		totp, _ := f["totp"].(map[string]any)
		if secret := plain(totp["secret"]); secret != "" && b.TOTP == nil {
			b.totp(secret)
		} else {
			b.noFactor("only authenticator apps can be taken over, and one of them")
		}
	}
	if enrolled, _ := take(object, "multifactor").([]any); len(enrolled) > 0 && b.TOTP == nil {
		b.noFactor("the export does not hold its secret")
	}
	for _, name := range []string{"tenant", "connection", "_tmp_is_unique", "last_login", "last_ip", "logins_count", "updated_at", "multifactor_last_modified", "last_password_reset"} {
		delete(object, name) // about the other system, not about the person
	}
	if identities, ok := take(object, "identities").([]any); ok {
		for _, one := range identities {
			if one, _ := one.(map[string]any); plain(one["provider"]) != "auth0" {
				b.leave("identities." + plain(one["provider"]))
			}
		}
	}
	b.rest("", object, ownNames)
}

// objectID reads "5f…" or {"$oid": "5f…"}.
func objectID(v any) string {
	if object, ok := v.(map[string]any); ok {
		v = object["$oid"]
	}
	return plain(v)
}

// date reads "2021-…" or {"$date": "2021-…"}.
func date(v any) any {
	if object, ok := v.(map[string]any); ok {
		return object["$date"]
	}
	return v
}

// auth0Hash takes a custom_password_hash over.
func auth0Hash(c map[string]any) (string, error) {
	hash, _ := c["hash"].(map[string]any)
	salt, _ := c["salt"].(map[string]any)
	password, _ := c["password"].(map[string]any)
	value := plain(hash["value"])
	if e := plain(password["encoding"]); e != "" && !strings.EqualFold(e, "utf8") {
		return "", &identity.HashError{Reason: "the password was hashed in another encoding than UTF-8"}
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(plain(c[name])) // 0 is out of all bounds
		return n
	}
	switch algorithm := plain(c["algorithm"]); algorithm {
	case "bcrypt", "argon2", "pbkdf2", "ldap":
		return identity.ReadHash(value)
	case "scrypt", "sha1", "sha256", "sha512":
		key, err1 := encoded(value, plain(hash["encoding"]), "hex")
		saltBytes, err2 := encoded(plain(salt["value"]), plain(salt["encoding"]), "utf8")
		if err := errors.Join(err1, err2); err != nil {
			return "", &identity.HashError{Reason: "hash or salt is not in the encoding it names"}
		}
		if algorithm == "scrypt" {
			return identity.ScryptHash(number("cost"), number("blockSize"), max(number("parallelization"), 1), saltBytes, key)
		}
		return identity.SaltedHash(algorithm, plain(salt["position"]) != "suffix", saltBytes, key)
	default:
		return "", &identity.HashError{Reason: fmt.Sprintf("hashing by %.20q is not known, or too weak to be taken over", algorithm)}
	}
}

func encoded(text, encoding, usual string) ([]byte, error) {
	if encoding == "" {
		encoding = usual
	}
	switch encoding {
	case "hex":
		return hex.DecodeString(text)
	case "base64":
		return identity.DecodeBase64(text)
	case "utf8":
		return []byte(text), nil
	}
	return nil, errors.New("unknown encoding")
}

// HashFile finds lines in Auth0's export of password hashes, which comes in a file of its own. It remembers where each line
// begins: about 40 bytes for a person.
type HashFile struct {
	file io.ReaderAt
	seed maphash.Seed
	at   map[uint64]int64
}

// OpenHashes reads such a file once.
func OpenHashes(file io.ReaderAt) (*HashFile, error) {
	h := &HashFile{file: file, seed: maphash.MakeSeed(), at: map[uint64]int64{}}
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, 1<<62), maxRecord)
	for at := int64(0); ; {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errLong
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if text := strings.TrimSpace(string(line)); text != "" {
			var entry struct {
				ID any `json:"_id"`
			}
			if json.Unmarshal([]byte(text), &entry) != nil || objectID(entry.ID) == "" {
				return nil, fmt.Errorf("the file of password hashes is broken at byte %d: each line must be an object with _id and passwordHash", at)
			}
			h.at[maphash.String(h.seed, objectID(entry.ID))] = at
		}
		at += int64(len(line))
		if err != nil {
			return h, nil
		}
	}
}

// find gives the hash of the person with an id such as auth0|5f…; "" for none.
func (h *HashFile) find(userID string) (hash string, changed any, err error) {
	id, ok := strings.CutPrefix(userID, "auth0|")
	if !ok {
		return "", nil, nil
	}
	at, ok := h.at[maphash.String(h.seed, id)]
	if !ok {
		return "", nil, nil
	}
	line, err := bufio.NewReader(io.NewSectionReader(h.file, at, maxRecord)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	var entry struct {
		ID      any    `json:"_id"`
		Hash    string `json:"passwordHash"`
		Changed any    `json:"password_set_date"`
	}
	if err := json.Unmarshal(line, &entry); err != nil {
		return "", nil, errors.New("the file of password hashes has changed meanwhile")
	}
	if objectID(entry.ID) != id { // another id with the same 64 bits
		return "", nil, nil
	}
	return entry.Hash, date(entry.Changed), nil
}
