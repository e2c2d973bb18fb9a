package identity

import (
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const horse = "correct horse battery staple"

// foreignVectors are hashes that others have computed: published test vectors, or Python's hashlib.
var foreignVectors = []struct{ name, text, password string }{
	{"bcrypt 2a (crypt_blowfish)", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	{"bcrypt 2a in an LDAP wrapper", "{CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	{"argon2i (reference implementation)", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA", "password"},
	{"argon2id (reference implementation)", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
	{"argon2id with two lanes", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
	{"PBKDF2 SHA-1", "$pbkdf2-sha1$i=1000,l=20$MDEyMzQ1Njc4OWFiY2RlZg$wmIXv0mv7iouqkc9CKjRvCX21po", horse},
	{"PBKDF2 SHA-256, two blocks", "$pbkdf2-sha256$i=27500,l=64$MDEyMzQ1Njc4OWFiY2RlZg$DGzF4+RpmttWHV7FCaK41NYsG4Rc9QqDO8q71k0T1ODS+Ooo+SM5Ep4eJNd+eywW2X+UkNdTatqTScXAD7qm+w", horse},
	{"PBKDF2 SHA-512", "$pbkdf2-sha512$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$5bTW2oeyDJyGJPcmEr+mRDE11ghpozWrDGnSNhRXo2ZCu0KHRDiUMAVEGzLJC+oDhRoeIja9J1iLIv9ptDJMfQ", horse},
	{"PBKDF2 of Django", "pbkdf2_sha256$1000$seasalt123$mi/mouJNitkW01F5F1gueFuRlWbcQkpDEMxeAA/Xa9k=", horse},
	{"PBKDF2 of passlib", "$pbkdf2-sha512$1000$MDEyMzQ1Njc4OWFiY2RlZg$5bTW2oeyDJyGJPcmEr.mRDE11ghpozWrDGnSNhRXo2ZCu0KHRDiUMAVEGzLJC.oDhRoeIja9J1iLIv9ptDJMfQ", horse},
	{"scrypt of Ory", "$scrypt$ln=1024,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$7AnzIswxwEinpwz+ntydndYfVHPvOACmX9Vvo8hO1qM=", horse},
	{"scrypt of passlib", "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$7AnzIswxwEinpwz+ntydndYfVHPvOACmX9Vvo8hO1qM", horse},
	{
		"Firebase (its published example)", "$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==$" +
			"Bw==$jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==", "user1password",
	},
	{"SSHA", "{SSHA}46BnfOtjjVkV2IM1YrlQPStNxk5zYWx0c2FsdA==", horse},
	{"SSHA256", "{SSHA256}CjjqPXPYGjVMmTRdzHN2UTPdg0XIYl0HWPy+0QwtTBRzYWx0c2FsdA==", horse},
	{"SSHA512", "{SSHA512}UweAzUpvjvE5jz6nWBj9q0BiWPv/iScwpbX/yGA6X/AMM4Vz4l5BHV0nnau4mHhhKbbncQtK3bqI9cz8WqqeP3NhbHRzYWx0", horse},
}

func TestForeignHashVectors(t *testing.T) {
	t.Parallel()
	h := newHasher(testCost, 1)
	verify := func(name, kept, password string, want bool) {
		t.Helper()
		ok, outdated, err := h.verify(t.Context(), kept, password)
		if ok != want || !outdated || err != nil {
			t.Errorf("%s, %q: got %v, outdated %v, %v; want %v, true, nil", name, password, ok, outdated, err, want)
		}
	}
	for _, c := range foreignVectors {
		kept, err := ReadHash(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		verify(c.name, kept, c.password, true)
		verify(c.name, kept, c.password+"x", false)
		verify(c.name, kept, "", false)
		decoy := h.decoy(kept)
		verify(c.name+", decoy", decoy, c.password, false)
		if len(decoy) != len(kept) || decoy == kept || decoy[:10] != kept[:10] {
			t.Errorf("%s: decoy %q of %q", c.name, decoy, kept)
		}
	}
	key, err := hex.DecodeString("699e0de68b1e943c32003922e3740b213c429456c6a84e5b978c6ba90996447e")
	wantNil(t, "hex", err)
	kept, err := SaltedHash("sha256", true, []byte("saltsalt"), key)
	wantNil(t, "salt in front", err)
	verify("salt in front", kept, horse, true)
	verify("salt in front", kept, "x", false)
	// RFC 7914 §12, the third vector.
	key, err = hex.DecodeString("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887")
	wantNil(t, "hex", err)
	kept, err = ScryptHash(16384, 8, 1, []byte("SodiumChloride"), key)
	wantNil(t, "scrypt", err)
	verify("scrypt of RFC 7914", kept, "pleaseletmein", true)
	// RFC 6070, the last but one: its key is longer than one block.
	key, err = hex.DecodeString("3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038")
	wantNil(t, "hex", err)
	kept, err = PBKDF2Hash("sha1", 4096, []byte("saltSALTsaltSALTsaltSALTsaltSALTsalt"), key)
	wantNil(t, "PBKDF2", err)
	verify("PBKDF2 of RFC 6070", kept, "passwordPASSWORDpassword", true)
}

// The signer key of a Firebase project must not come to lie in every row.
func TestFirebaseSignerKeyIsNotKept(t *testing.T) {
	t.Parallel()
	for _, c := range foreignVectors {
		if strings.HasPrefix(c.name, "Firebase") {
			kept, err := ReadHash(c.text)
			wantNil(t, "read", err)
			parts := strings.Split(c.text, "$")
			if strings.Contains(kept, strings.TrimRight(parts[len(parts)-1], "=")) {
				t.Errorf("signer key in %s", kept)
			}
		}
	}
}

// What passes must be cheap enough to check, and hard enough to meet by chance.
func TestHostileHashParameters(t *testing.T) {
	t.Parallel()
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
	for _, text := range []string{
		"", "$", "$$$$", "plain", "{SSHA}", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "{MD5}X03MO1qnZdYdgyfeuILPmw==", "$1$salt$hash", "$6$salt$hash",
		"$2a$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2a$00$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe",
		"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW$",
		"$argon2id$v=19$m=4194304,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=131073,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=17,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=4294967296,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=1,p=255$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=1,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=-65536,t=-1,p=1$" + salt + "$" + key,
		"$argon2id$m=65536,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=65536,t=1,p=1$" + salt + "$" + key,
		"$argon2d$v=19$m=65536,t=1,p=1$" + salt + "$" + key,
		"$argon2i$v=19$m=65536,t=1,p=1$" + salt + "$",
		"$argon2i$v=19$m=65536,t=1,p=1$" + salt + "$AAAA",
		"$argon2i$v=19$m=65536,t=1,p=1$$" + key,
		"$argon2i$v=19$m=65536,m=64,t=1,p=1$" + salt + "$" + key,
		"$pbkdf2-sha256$i=2147483647,l=32$" + salt + "$" + key,
		"$pbkdf2-sha256$i=99999999999999999999,l=32$" + salt + "$" + key,
		"$pbkdf2-sha256$i=0,l=32$" + salt + "$" + key,
		"$pbkdf2-sha256$i=-1,l=32$" + salt + "$" + key,
		"$pbkdf2-sha512$i=2000000,l=32$" + salt + "$" + key,
		"$pbkdf2-sha256$i=1000,l=32$" + salt + "$",
		"$pbkdf2-md5$i=1000,l=32$" + salt + "$" + key,
		"pbkdf2_sha256$1000$salt", "pbkdf2_sha256$-1$saltsalt$" + key,
		"$scrypt$ln=31,r=8,p=1$" + salt + "$" + key,
		"$scrypt$ln=18,r=8,p=1$" + salt + "$" + key,
		"$scrypt$ln=14,r=1073741824,p=1$" + salt + "$" + key,
		"$scrypt$ln=14,r=8,p=1000000$" + salt + "$" + key,
		"$scrypt$ln=14,r=8,p=64$" + salt + "$" + key,
		"$scrypt$ln=1000,r=8,p=1$" + salt + "$" + key,
		"$scrypt$ln=0,r=8,p=1$" + salt + "$" + key,
		"$scrypt$ln=14,r=8,p=1$" + salt + "$",
		"$firescrypt$ln=14,r=8,p=1$" + salt + "$$$",
		"$firescrypt$ln=40,r=8,p=1$" + salt + "$" + key + "$Bw==$" + key,
		"$firescrypt$ln=-1,r=8,p=1$" + salt + "$" + key + "$Bw==$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 1<<20),
	} {
		kept, err := ReadHash(text)
		var bad *HashError
		if kept != "" || !errors.As(err, &bad) {
			t.Errorf("ReadHash(%.90q) = %q, %v; want a HashError", text, kept, err)
		}
		h := newHasher(testCost, 1)
		if ok, _, err := h.verify(t.Context(), text, ""); ok || err == nil { // planted in the database
			t.Errorf("verify %.90q: got %v, %v; want an error", text, ok, err)
		}
	}
}

// FuzzReadHash: what passes is within the bounds, reads back as itself, and no empty password fits by accident of form.
func FuzzReadHash(f *testing.F) {
	for _, c := range foreignVectors {
		f.Add(c.text)
	}
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$scrypt$ln=1,r=1,p=1$AAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		kept, err := ReadHash(text)
		if err != nil {
			var bad *HashError
			if kept != "" || !errors.As(err, &bad) {
				t.Errorf("ReadHash(%q) = %q, %v", text, kept, err)
			}
			return
		}
		h, err := parseForeign(kept)
		if err != nil || h.String() != kept {
			t.Fatalf("ReadHash(%q) = %q, which reads as %q, %v", text, kept, h, err)
		}
		if h.name == hashBcrypt {
			return
		}
		if len(h.key) < minForeignKey || len(h.salt) < minForeignSalt || len(kept) > maxForeignText {
			t.Errorf("%q passed", kept)
		}
		if d := h.decoy().String(); len(d) != len(kept) || d == kept {
			t.Errorf("decoy of %q: %q", kept, d)
		}
	})
}

// plant gives a person a password hash of another system.
func (w *world) plant(t *testing.T, u User, text string) string {
	t.Helper()
	kept, err := ReadHash(text)
	wantNil(t, "read hash", err)
	_, err = w.db.Exec(t.Context(), `UPDATE users SET password_hash = $2 WHERE id = $1`, u.ID, kept)
	wantNil(t, "plant hash", err)
	return kept
}

func (w *world) hashOf(t *testing.T, u User) (hash string) {
	t.Helper()
	wantNil(t, "read hash", w.db.QueryRow(t.Context(), `SELECT password_hash FROM users WHERE id = $1`, u.ID).Scan(&hash))
	return hash
}

func TestForeignHashIsUpgradedAtTheNextSignIn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		for _, c := range foreignVectors {
			kept := w.plant(t, u, c.text)
			_, err := w.CheckPassword(t.Context(), u.Email, "wrong", home)
			wantErr(t, c.name+": wrong password", err, ErrCredentials)
			if got := w.hashOf(t, u); got != kept {
				t.Errorf("%s: a wrong password changed the hash to %q", c.name, got)
			}
			got, err := w.CheckPassword(t.Context(), u.Email, c.password, home)
			wantNil(t, c.name, err)
			if diff := cmp.Diff(u, got); diff != "" { // PasswordChangedAt among it: a sign-in that is under way goes on
				t.Errorf("%s: person (-want +got):\n%s", c.name, diff)
			}
			p, err := parsePHC(w.hashOf(t, u))
			if err != nil || p.cost != testCost {
				t.Errorf("%s: afterwards the hash is %q", c.name, w.hashOf(t, u))
			}
			_, err = w.CheckPassword(t.Context(), u.Email, c.password, home)
			wantNil(t, c.name+" again", err)
		}
	})
}

// A password that is changed while somebody signs in with the old one must stay the changed one.
func TestAttackUpgradeUndoesNewPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		kept := w.plant(t, u, foreignVectors[0].text)
		r := userRow{user: u, passwordHash: kept}
		wantNil(t, "new password", w.SetOneTimePassword(t.Context(), u.ID, otherPassword))
		wantNil(t, "enter", w.hasher.enter())
		wantNil(t, "upgrade", w.upgradeHash(t.Context(), r, "U*U"))
		w.hasher.leave()
		_, err := w.CheckPassword(t.Context(), u.Email, "U*U", home)
		wantErr(t, "old password", err, ErrCredentials)
		_, err = w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		wantNil(t, "new password", err)
	})
}

// Several sign-ins at once upgrade to one hash that works.
func TestForeignHashUpgradedConcurrently(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.plant(t, u, foreignVectors[0].text)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				_, err := w.CheckPassword(t.Context(), u.Email, "U*U", home)
				wantNil(t, "sign-in", err)
			})
		}
		wg.Wait()
		_, err := w.CheckPassword(t.Context(), u.Email, "U*U", home)
		wantNil(t, "afterwards", err)
	})
}

// Imported hashes take another time to check than ours. A stranger must not learn from it which addresses are known:
// whoever is refused, for whatever reason, is refused at the cost of somebody's real hash (account enumeration by time).
func TestAttackImportedAccountsShowByTime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.create(t, "bob@example.com")
		kept := w.plant(t, u, foreignVectors[0].text)
		var index []byte
		wantNil(t, "index", w.db.QueryRow(t.Context(), `SELECT email_index FROM users WHERE id = $1`, u.ID).Scan(&index))

		seen := map[bool]int{}
		for i := range 64 {
			strange := []byte{byte(4 * i)}
			got, err := w.neighbourHash(t.Context(), strange)
			wantNil(t, "neighbour", err)
			again, err := w.neighbourHash(t.Context(), strange)
			if err != nil || again != got {
				t.Errorf("one address has two decoys: %q and %q, %v", got, again, err)
			}
			seen[got == kept]++
		}
		if seen[false] == 0 {
			t.Error("all strangers take the time of one person")
		}
		before := append([]byte(nil), index...)
		before[len(before)-1]-- // borrows do not matter for one test in 256
		if index[len(index)-1] > 0 {
			if got, err := w.neighbourHash(t.Context(), before); err != nil || got != kept {
				t.Errorf("right before the imported person: %q, %v; want the imported hash", got, err)
			}
		}
		// The neighbour lends the time, not the account.
		_, err := w.CheckPassword(t.Context(), "nobody@example.com", "U*U", home)
		wantErr(t, "unknown address with the neighbour's password", err, ErrCredentials)
		_, err = w.CheckPassword(t.Context(), "nobody@example.com", goodPassword, home)
		wantErr(t, "unknown address with the other's password", err, ErrCredentials)
	})
}
