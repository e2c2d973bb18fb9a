package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/softkey"
)

const (
	keyOrigin = "https://id.example.test"
	keyRPID   = "id.example.test"
	browser   = "the-secret-of-a-browser"
)

// eachKeyed is each for a directory at an origin where passkeys work.
func eachKeyed(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	eachWith(t, Config{Origin: keyOrigin, Name: "Example ID"}, f)
}

func enrolling(userID string) Ceremony {
	return Ceremony{Use: PasskeyEnrol, UserID: userID, Browser: browser, Scope: "session"}
}

var signingIn = Ceremony{Use: PasskeySignIn, Browser: browser, Scope: "interaction"}

func presenting(userID string) Ceremony {
	return Ceremony{Use: PasskeyPresent, UserID: userID, Browser: browser, Scope: "login"}
}

func (w *world) options(t *testing.T, c Ceremony) []byte {
	t.Helper()
	options, err := w.BeginPasskey(t.Context(), c)
	wantNil(t, "begin", err)
	return options
}

func created(t *testing.T, k *softkey.Key, options []byte) []byte {
	t.Helper()
	answer, err := k.Create(options)
	wantNil(t, "create", err)
	return answer
}

func got(t *testing.T, k *softkey.Key, options []byte) []byte {
	t.Helper()
	answer, err := k.Get(options)
	wantNil(t, "get", err)
	return answer
}

// passkey gives a person a passkey.
func (w *world) passkey(t *testing.T, u User, name string) (*softkey.Key, Passkey) {
	t.Helper()
	k := softkey.New(keyOrigin, keyRPID)
	added, _, _, err := w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), name, created(t, k, w.options(t, enrolling(u.ID))))
	wantNil(t, "add", err)
	return k, added
}

func TestPasskeyLifecycle(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		k := softkey.New(keyOrigin, keyRPID)
		added, recovery, amr, err := w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "  Blue key ", created(t, k, w.options(t, enrolling(u.ID))))
		wantNil(t, "add", err)
		if added.Name != "Blue key" || added.Synced || len(recovery) != 10 || !slices.Equal(amr, []string{AMRHardware, AMRPresence, AMRMFA}) {
			t.Errorf("added %+v with %d codes by %v", added, len(recovery), amr)
		}
		second := softkey.New(keyOrigin, keyRPID)
		second.Synced = true
		phone, recovery, amr, err := w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "Phone", created(t, second, w.options(t, enrolling(u.ID))))
		wantNil(t, "add another", err)
		if !phone.Synced || len(recovery) != 0 || !slices.Contains(amr, AMRSoftware) {
			t.Errorf("second: %+v with %d codes by %v", phone, len(recovery), amr)
		}
		if u, _ := w.User(t.Context(), u.ID); !u.HasPasskey || !u.TwoStep() || u.HasTOTP {
			t.Errorf("user after: %+v", u)
		}

		w.pass(time.Hour)
		who, amr, err := w.CheckPasskey(t.Context(), signingIn, got(t, k, w.options(t, signingIn)), home)
		wantNil(t, "sign in", err)
		if who.ID != u.ID || acrOf(amr) != ACRPhishingResistant {
			t.Errorf("signed in %s by %v", who.ID, amr)
		}
		_, s := w.start(t, u.ID, "", amr...)
		if s.ACR() != ACRPhishingResistant || !s.HasPasskey {
			t.Errorf("session %+v", s)
		}
		_, _, err = w.CheckPasskey(t.Context(), presenting(u.ID), got(t, second, w.options(t, presenting(u.ID))), home)
		wantNil(t, "present", err)

		wantNil(t, "rename", w.RenamePasskey(t.Context(), u.ID, added.ID, "Key ring"))
		list, err := w.Passkeys(t.Context(), u.ID)
		wantNil(t, "list", err)
		if len(list) != 2 || list[0].Name != "Key ring" || !list[0].UsedAt.Equal(w.now()) || !list[0].CreatedAt.Before(w.now()) || list[1].Name != "Phone" {
			t.Errorf("list: %+v", list)
		}
		removed, err := w.RemovePasskey(t.Context(), u.ID, added.ID)
		wantNil(t, "remove", err)
		if removed.Name != "Key ring" {
			t.Errorf("removed %+v", removed)
		}
		_, _, err = w.CheckPasskey(t.Context(), signingIn, got(t, k, w.options(t, signingIn)), home)
		wantErr(t, "a removed passkey", err, ErrPasskey)
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 10 {
			t.Errorf("%d recovery codes beside a passkey, want 10", n)
		}
		_, err = w.RemovePasskey(t.Context(), u.ID, phone.ID)
		wantNil(t, "remove the last", err)
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 0 {
			t.Errorf("%d recovery codes without a second factor, want 0", n)
		}
		for _, want := range []string{"passkey.add success", "passkey.check success", "passkey.rename success", "passkey.remove success", "passkey.check success"} {
			if !slices.Contains(w.audited(t), want+" "+u.ID) {
				t.Errorf("the audit log lacks %q: %v", want, w.audited(t))
			}
		}
	})
}

// What is wrong with an answer never shows: each attack gives ErrPasskey and nothing else.
func TestPasskeyAttacks(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		key, _ := w.passkey(t, ada, "Ada's")
		evil, _ := w.passkey(t, eve, "Eve's")
		check := func(what string, c Ceremony, answer []byte) {
			t.Helper()
			if _, _, err := w.CheckPasskey(t.Context(), c, answer, home); !errors.Is(err, ErrPasskey) {
				t.Errorf("%s: got error %v, want ErrPasskey", what, err)
			}
		}

		used := got(t, key, w.options(t, signingIn))
		_, _, err := w.CheckPasskey(t.Context(), signingIn, used, home)
		wantNil(t, "sign in", err)
		check("a replayed answer", signingIn, used)

		phished := key.Copy()
		phished.Origin = "https://id.example.test.evil.example"
		check("an answer made at another origin", signingIn, got(t, phished, w.options(t, signingIn)))
		phished.Origin = "http://id.example.test"
		check("an answer made without https", signingIn, got(t, phished, w.options(t, signingIn)))
		phished.Origin, phished.RPID = keyOrigin, "example.test"
		check("an answer for another relying party", signingIn, got(t, phished, w.options(t, signingIn)))

		lazy := key.Copy()
		lazy.Unverified = true
		check("an answer without user verification", signingIn, got(t, lazy, w.options(t, signingIn)))
		check("a second step without user verification", presenting(ada.ID), got(t, lazy, w.options(t, presenting(ada.ID))))

		confused := key.Copy()
		confused.Type = "webauthn.create"
		check("an answer of the wrong type", signingIn, got(t, confused, w.options(t, signingIn)))

		check("a challenge of a registration", signingIn, got(t, key, w.options(t, enrolling(ada.ID))))
		check("a challenge of a sign-in for a second step", presenting(ada.ID), got(t, key, w.options(t, signingIn)))
		check("a challenge of a second step for a sign-in", signingIn, got(t, key, w.options(t, presenting(ada.ID))))
		check("another person's passkey as the second step", presenting(ada.ID), got(t, evil, w.options(t, presenting(ada.ID))))
		elsewhere := signingIn
		elsewhere.Browser = "another browser"
		check("a challenge of another browser", elsewhere, got(t, key, w.options(t, signingIn)))
		check("a browser without a cookie", Ceremony{Use: PasskeySignIn, Scope: "interaction"}, got(t, key, w.options(t, Ceremony{Use: PasskeySignIn, Scope: "interaction"})))
		other := signingIn
		other.Scope = "another interaction"
		check("a challenge of another interaction", other, got(t, key, w.options(t, signingIn)))

		stranger := softkey.New(keyOrigin, keyRPID)
		created(t, stranger, w.options(t, enrolling(ada.ID)))
		check("an unknown passkey", signingIn, got(t, stranger, w.options(t, signingIn)))
		forged := *stranger
		forged.ID = key.ID
		check("a known passkey with another key's signature", signingIn, got(t, &forged, w.options(t, signingIn)))
		swapped := bytes.Replace(got(t, key, w.options(t, signingIn)), []byte(`"userHandle":"`), []byte(`"userHandle":"AAAA`), 1)
		check("another user handle", signingIn, swapped)

		late := got(t, key, w.options(t, signingIn))
		w.pass(challengeLife)
		check("an answer that comes too late", signingIn, late)
		check("no JSON", signingIn, []byte("{"))
		check("far too much", signingIn, bytes.Repeat([]byte(" "), maxPasskeyAnswer+1))

		answer := got(t, key, w.options(t, signingIn))
		wantNil(t, "disable", w.SetStatus(t.Context(), ada.ID, StatusDisabled))
		check("somebody disabled", signingIn, answer)
	})
}

func TestPasskeyRegistrationAttacks(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		add := func(what string, c Ceremony, answer []byte) {
			t.Helper()
			if _, _, _, err := w.AddPasskey(t.Context(), w.in(t, c.UserID), c, "Key", answer); !errors.Is(err, ErrPasskey) {
				t.Errorf("%s: got error %v, want ErrPasskey", what, err)
			}
		}
		lazy := softkey.New(keyOrigin, keyRPID)
		lazy.Unverified = true
		add("without user verification", enrolling(ada.ID), created(t, lazy, w.options(t, enrolling(ada.ID))))
		add("at another origin", enrolling(ada.ID), created(t, softkey.New("https://evil.example", keyRPID), w.options(t, enrolling(ada.ID))))
		add("for another relying party", enrolling(ada.ID), created(t, softkey.New(keyOrigin, "example.test"), w.options(t, enrolling(ada.ID))))
		add("with a challenge of somebody else", enrolling(ada.ID), created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(eve.ID))))
		other := enrolling(ada.ID)
		other.Browser = "another browser"
		add("in another browser", other, created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(ada.ID))))
		k := softkey.New(keyOrigin, keyRPID)
		k.Type = "webauthn.get"
		add("of the wrong type", enrolling(ada.ID), created(t, k, w.options(t, enrolling(ada.ID))))
		wrong := enrolling(ada.ID)
		wrong.Use = PasskeySignIn
		add("as something else", wrong, created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(ada.ID))))

		k, _ = w.passkey(t, ada, "Key")
		answer := created(t, k, w.options(t, enrolling(eve.ID)))
		_, _, _, err := w.AddPasskey(t.Context(), w.in(t, eve.ID), enrolling(eve.ID), "Key", answer)
		wantNil(t, "another key on one authenticator", err)
		add("a replayed registration", enrolling(eve.ID), answer)
		if list, _ := w.Passkeys(t.Context(), ada.ID); len(list) != 1 {
			t.Errorf("ada has %d passkeys, want 1", len(list))
		}
		_, _, _, err = w.AddPasskey(t.Context(), w.in(t, ada.ID), enrolling(ada.ID), " ", nil)
		wantField(t, "no name", err, "name", KeyRequired)
		_, _, _, err = w.AddPasskey(t.Context(), w.in(t, ada.ID), enrolling(ada.ID), strings.Repeat("x", maxPasskeyName+1), nil)
		wantField(t, "a long name", err, "name", KeyTooLong)
	})
}

func TestOneChallengeHasOneWinner(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		k, _ := w.passkey(t, u, "Key")
		answer := got(t, k, w.options(t, signingIn))
		if won := race(t, ErrPasskey, func() error {
			_, _, err := w.CheckPasskey(t.Context(), signingIn, answer, home)
			return err
		}); won != 1 {
			t.Errorf("%d of 20 signed in with one answer, want 1", won)
		}
	})
}

func TestClonedPasskeyIsRefused(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		k := softkey.New(keyOrigin, keyRPID)
		k.Count = 7
		added, _, _, err := w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "Key", created(t, k, w.options(t, enrolling(u.ID))))
		wantNil(t, "add", err)
		thief := k.Copy()
		_, _, err = w.CheckPasskey(t.Context(), signingIn, got(t, k, w.options(t, signingIn)), home)
		wantNil(t, "the owner", err)
		_, _, err = w.CheckPasskey(t.Context(), signingIn, got(t, thief, w.options(t, signingIn)), home)
		var copied *CopiedError
		if !errors.Is(err, ErrPasskey) || !errors.As(err, &copied) || copied.User.ID != u.ID || copied.Name != "Key" {
			t.Fatalf("the copy: got error %v, want a CopiedError of the person", err)
		}
		// Which of both is the copy is not known: from now on neither opens the account.
		for _, one := range []*softkey.Key{k, thief} {
			_, _, err = w.CheckPasskey(t.Context(), signingIn, got(t, one, w.options(t, signingIn)), home)
			wantErr(t, "afterwards", err, ErrPasskey)
		}
		list, _ := w.Passkeys(t.Context(), u.ID)
		if len(list) != 1 || !list[0].Copied {
			t.Errorf("list: %+v", list)
		}
		_, err = w.BeginPasskey(t.Context(), presenting(u.ID))
		wantErr(t, "none to present", err, ErrNotFound)
		if !slices.Contains(w.audited(t), "passkey.check failure "+u.ID) {
			t.Error("the audit log does not know")
		}
		// The password alone is not enough because of it (downgrade).
		_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", time.Time{})
		wantErr(t, "password alone", err, ErrNotFound)
		_, err = w.RemovePasskey(t.Context(), u.ID, added.ID)
		wantNil(t, "remove", err)
	})
}

func TestLastWayInStays(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, first := w.passkey(t, u, "First")
		_, second := w.passkey(t, u, "Second")
		_, err := w.db.Exec(t.Context(), `UPDATE users SET password_hash = '' WHERE id = $1`, u.ID)
		wantNil(t, "no password", err)
		ids := make(chan string, 2)
		ids <- first.ID
		ids <- second.ID
		if won := race(t, ErrLastWayIn, func() error {
			select {
			case id := <-ids:
				_, err := w.RemovePasskey(t.Context(), u.ID, id)
				return err
			default:
				return ErrLastWayIn
			}
		}); won != 1 {
			t.Errorf("%d of both were removed, want 1", won)
		}
		if list, _ := w.Passkeys(t.Context(), u.ID); len(list) != 1 {
			t.Errorf("%d passkeys left, want 1", len(list))
		}
	})
}

func TestPasskeysOfAnotherPerson(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		_, key := w.passkey(t, ada, "Key")
		wantErr(t, "rename", w.RenamePasskey(t.Context(), eve.ID, key.ID, "Mine"), ErrNotFound)
		_, err := w.RemovePasskey(t.Context(), eve.ID, key.ID)
		wantErr(t, "remove", err, ErrNotFound)
		if list, _ := w.Passkeys(t.Context(), ada.ID); len(list) != 1 || list[0].Name != "Key" {
			t.Errorf("list: %+v", list)
		}
	})
}

// Signing in is the same for everybody until the answer comes.
func TestSignInOptionsTellNothing(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		shape := func() map[string]any {
			var o map[string]any
			wantNil(t, "options", json.Unmarshal(w.options(t, signingIn), &o))
			delete(o, "challenge")
			return o
		}
		before := shape()
		w.passkey(t, u, "Key")
		if after := shape(); len(after) != len(before) || after["allowCredentials"] != nil || after["userVerification"] != "required" || after["rpId"] != keyRPID {
			t.Errorf("options: %v, before there was a passkey %v", after, before)
		}
	})
}

func TestPasskeysNeedANamedOrigin(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{
		"": false, "https://id.example.test": true, "https://id.example.test:8443": true, "http://localhost:8080": true,
		"http://127.0.0.1:8080": false, "https://192.0.2.1": false, "https://[2001:db8::1]": false, "http://id.example.test": false,
	} {
		w := newWorld(t, dbtest.OpenSQLite(t), Config{Origin: origin})
		if got := w.PasskeysPossible(); got != want {
			t.Errorf("%q: got %v, want %v", origin, got, want)
		}
		if !want {
			_, err := w.BeginPasskey(t.Context(), signingIn)
			wantErr(t, "begin at "+origin, err, ErrNotFound)
		}
	}
}

func TestTooManyPasskeys(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		late := created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(u.ID)))
		for range maxPasskeys {
			w.passkey(t, u, "Key")
		}
		_, err := w.BeginPasskey(t.Context(), enrolling(u.ID))
		wantErr(t, "one more", err, ErrPasskeys)
		_, _, _, err = w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "Key", late)
		wantErr(t, "one that was begun before", err, ErrPasskeys)
	})
}

// A sign-in with the password that began before the second factor was there ends without a session.
func TestSessionStartRacingWithEnrolment(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.passkey(t, ada, "Key")
		enrol(t, w, bob.ID)
		for _, u := range []User{ada, bob} {
			_, _, err := w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", u.PasswordChangedAt)
			wantErr(t, "password alone", err, ErrNotFound)
			_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword, AMROTP, AMRMFA}, Device{}, "", u.PasswordChangedAt)
			wantNil(t, "both steps", err)
		}
	})
}

func TestPasskeysKeepRecoveryCodesAlive(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		k := softkey.New(keyOrigin, keyRPID)
		_, codes, _, err := w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "Key", created(t, k, w.options(t, enrolling(u.ID))))
		wantNil(t, "add", err)
		wantNil(t, "a recovery code", w.CheckRecoveryCode(t.Context(), u.ID, codes[0]))
		wantErr(t, "the same again", w.CheckRecoveryCode(t.Context(), u.ID, codes[0]), ErrCode)
		fresh, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantNil(t, "renew", err)
		enrol(t, w, u.ID)
		wantNil(t, "remove the app", w.RemoveTOTP(t.Context(), u.ID))
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 10 {
			t.Errorf("%d codes left beside a passkey, want 10", n)
		}
		wantErr(t, "an older code", w.CheckRecoveryCode(t.Context(), u.ID, fresh[0]), ErrCode)
	})
}

func TestReaches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{ACRPassword, "", true},
		{ACRPassword, ACRPassword, true},
		{ACRPassword, ACRMFA, false},
		{ACRMFA, ACRPassword, true},
		{ACRMFA, ACRPhishingResistant, false},
		{ACRPhishingResistant, ACRMFA, true},
		{ACRPhishingResistant, "urn:other", false},
		{"urn:other", ACRPassword, false},
		{"", ACRPassword, false},
	} {
		if got := Reaches(c.have, c.want); got != c.ok {
			t.Errorf("Reaches(%q, %q) = %v, want %v", c.have, c.want, got, c.ok)
		}
	}
}

// FuzzPasskeyAnswer holds for any bytes that come as an answer: no panic, nobody signed in, nothing enrolled.
func FuzzPasskeyAnswer(f *testing.F) {
	f.Add([]byte(`{"id":"AAAA","rawId":"AAAA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AAAA","signature":"AAAA"}}`))
	f.Add([]byte(`{"id":"AAAA","rawId":"AAAA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YUA"}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(``))
	w := newWorld(f, dbtest.OpenSQLite(f), Config{Origin: keyOrigin})
	f.Fuzz(func(t *testing.T, answer []byte) {
		w.pass(passkeyWindow) // the limit is not what is tried here
		if _, _, err := w.CheckPasskey(t.Context(), signingIn, answer, home); err == nil {
			t.Error("signed somebody in")
		}
		if _, _, _, err := w.AddPasskey(t.Context(), w.in(t, "0198a0de-0000-7000-8000-000000000000"), enrolling("0198a0de-0000-7000-8000-000000000000"), "Key", answer); err == nil {
			t.Error("enrolled something")
		}
	})
}
