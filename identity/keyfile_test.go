package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := w.db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (w *world) keys(t *testing.T) *bytes.Buffer {
	t.Helper()
	var file bytes.Buffer
	_, err := w.WriteKeys(t.Context(), &file)
	wantNil(t, "write keys", err)
	return &file
}

// The whole of it: a backup from before an erasure, with a file of keys from after it, on the file that SQLite has made.
func TestAttackErasedPersonInOldBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{})
	ada, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{Name: "Ada Example"}})
	wantNil(t, "create", err)
	enrol(t, w, ada.ID)
	w.start(t, ada.ID, "", AMRPassword, AMROTP, AMRMFA)
	bob, err := w.Create(t.Context(), NewUser{Email: "bob@example.com", Password: goodPassword, Profile: Profile{Name: "Bob Example"}})
	wantNil(t, "create", err)

	backup := filepath.Join(t.TempDir(), "backup.db")
	wantNil(t, "backup", w.db.Copy(t.Context(), backup, "data_keys"))
	w.pass(week)
	if _, err := w.Erase(t.Context(), ada.ID, false); err != nil {
		t.Fatal(err)
	}
	keys := w.keys(t)

	old, err := db.Open(t.Context(), "sqlite:"+backup)
	wantNil(t, "open backup", err)
	t.Cleanup(func() { _ = old.Close() })
	c := w.config
	c.DB, c.Audit = old, audit.New(old, c.Log, c.Now)
	restored, err := open(t.Context(), c, testCost)
	wantNil(t, "open", err)

	var email, profile, seed, device []byte
	wantNil(t, "rows", old.QueryRow(t.Context(), `SELECT u.email, p.sealed, t.secret, s.device FROM users u JOIN profiles p ON p.user_id = u.id
		JOIN totp t ON t.user_id = u.id JOIN sessions s ON s.user_id = u.id WHERE u.id = $1`, ada.ID).Scan(&email, &profile, &seed, &device))
	opened := 0
	_, err = restored.readKeys(bytes.NewReader(keys.Bytes()), func(userID string, wrapped []byte) error {
		opened++
		if _, err := restored.ownSealer(ada.ID, wrapped); err == nil {
			t.Error("a key in the younger file passes for the erased person's")
		}
		own, err := restored.ownSealer(userID, wrapped)
		wantNil(t, "key", err)
		for what, sealed := range map[string][]byte{emailPurpose(ada.ID): email, profilePurpose(ada.ID): profile, totpPurpose(ada.ID): seed} {
			if plain, err := own.Open(sealed, what); err == nil {
				t.Errorf("%s opened: %q", what, plain)
			}
		}
		return nil
	})
	if err != nil || opened != 1 {
		t.Errorf("%d keys in the file, %v; want 1", opened, err)
	}
	if _, err := restored.User(t.Context(), bob.ID); err == nil {
		t.Error("a backup without keys opens")
	}
	_, err = restored.CheckPassword(t.Context(), ada.Email, goodPassword, home)
	wantErr(t, "sign-in without key", err, ErrCredentials)

	r, err := restored.RestoreKeys(t.Context(), bytes.NewReader(keys.Bytes()))
	if err != nil || r.Keys != 1 || !slices.Equal(r.Erased, []string{ada.ID}) || r.Wait != nil {
		t.Errorf("restored %+v, %v", r, err)
	}
	got, err := restored.User(t.Context(), bob.ID)
	if err != nil || got.Profile.Name != "Bob Example" || got.Email != bob.Email {
		t.Errorf("the other person: %+v, %v", got, err)
	}
	var n int
	wantNil(t, "count", old.QueryRow(t.Context(), `SELECT COUNT(*) FROM profiles`).Scan(&n))
	if n != 1 {
		t.Errorf("%d profiles, want that of the other person alone", n)
	}
}

// Nothing of the keys is in the file that is kept for long, not even in its gaps.
func TestAttackKeysInTheBackupFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{})
	var keys [][]byte
	for i := range 40 {
		w.create(t, strings.Repeat("a", i+1)+"@example.com")
	}
	wantNil(t, "keys", w.db.Query(t.Context(), func(row db.Scanner) error {
		var k []byte
		err := row.Scan(&k)
		keys = append(keys, k)
		return err
	}, `SELECT wrapped FROM data_keys`))
	with, without := wholeFile(t, w.db), wholeFile(t, w.db, "data_keys")
	for i, k := range keys {
		if !bytes.Contains(with, k) {
			t.Fatal("the test does not find keys where they are")
		}
		if bytes.Contains(without, k) {
			t.Errorf("key %d is in the file", i)
		}
	}
}

func TestRestoreKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stays, erased := w.create(t, "stays@example.com"), w.create(t, "erased@example.com")
		w.pass(2 * time.Hour)
		w.exec(t, `DELETE FROM data_keys WHERE user_id = $1`, erased.ID)
		fresh := w.create(t, "fresh@example.com")
		file := w.keys(t)
		late := w.create(t, "late@example.com")
		var before []byte
		wantNil(t, "key", w.db.QueryRow(t.Context(), `SELECT wrapped FROM data_keys WHERE user_id = $1`, late.ID).Scan(&before))
		w.exec(t, `DELETE FROM data_keys WHERE user_id <> $1`, fresh.ID)

		r, err := w.RestoreKeys(t.Context(), bytes.NewReader(file.Bytes()))
		if err != nil || r.Keys != 1 || !slices.Equal(r.Erased, []string{erased.ID}) || !slices.Equal(r.Wait, []string{late.ID}) {
			t.Errorf("got %+v, %v; want one key back, one erased, one too new to tell", r, err)
		}
		for _, u := range []User{stays, fresh} {
			_, err := w.User(t.Context(), u.ID)
			wantNil(t, u.Email, err)
		}
		if r, err := w.RestoreKeys(t.Context(), bytes.NewReader(file.Bytes())); err != nil || r.Keys != 0 || r.Erased != nil {
			t.Errorf("again: %+v, %v; want nothing", r, err)
		}
		if rows := w.audited(t); !slices.Contains(rows, "user.delete success "+erased.ID) {
			t.Errorf("audit rows %v, want the erasure", rows)
		}
		w.exec(t, `INSERT INTO data_keys (user_id, wrapped) VALUES ($1, $2)`, late.ID, before) // a younger file
		_, err = w.User(t.Context(), late.ID)
		wantNil(t, "late", err)
	})
}

// A file that was cut off, mixed up or made elsewhere must not pass for the news that people were erased.
func TestAttackForgedKeyFile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.pass(2 * time.Hour)
		file := w.keys(t).String()
		lines := strings.SplitAfter(file, "\n")
		elsewhere := newWorld(t, dbtest.OpenSQLite(t), Config{})
		for name, bad := range map[string]string{
			"empty":              "",
			"cut off":            strings.Join(lines[:2], ""),
			"a line less":        lines[0] + lines[1] + lines[3],
			"a line twice":       lines[0] + lines[1] + lines[1] + lines[2] + lines[3],
			"more behind":        file + lines[1],
			"younger":            strings.Replace(file, "2026", "2027", 1),
			"another person":     strings.Replace(file, ada.ID, bob.ID, 1),
			"other installation": elsewhere.keys(t).String(),
			"no MAC":             lines[0] + `{"mac":""}` + "\n",
		} {
			_, err := w.RestoreKeys(t.Context(), strings.NewReader(bad))
			wantErr(t, name, err, ErrKeyFile)
		}
		for _, u := range []User{ada, bob} {
			_, err := w.User(t.Context(), u.ID)
			wantNil(t, "person", err)
		}
		_, err := w.RestoreKeys(t.Context(), strings.NewReader(file))
		wantNil(t, "the true file", err)
	})
}

func FuzzKeyFile(f *testing.F) {
	d := &Directory{emailKey: []byte("secret"), now: time.Now}
	f.Add([]byte(`{"format":"gatehouse-keys-1","at":"2026-01-01T00:00:00Z"}` + "\n" + `{"user_id":"019b0000-0000-7000-8000-000000000000","key":"AQID"}` + "\n" + `{"mac":"AA=="}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := d.readKeys(bytes.NewReader(file), func(userID string, wrapped []byte) error {
			if userID == "" || len(wrapped) == 0 {
				t.Error("an empty key")
			}
			return nil
		}); err == nil {
			t.Error("a file without the secret's MAC was taken")
		}
	})
}

// wholeFile gives the bytes of a copy of a SQLite database.
func wholeFile(t *testing.T, d *db.DB, without ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	wantNil(t, "copy", d.Copy(t.Context(), path, without...))
	if err := d.Copy(t.Context(), path); err == nil {
		t.Error("a copy took another's place")
	}
	info, err := os.Stat(path)
	wantNil(t, "stat", err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s, want a file for its owner alone", info.Mode())
	}
	if rest, _ := filepath.Glob(path + "*"); len(rest) != 1 {
		t.Errorf("left behind: %v", rest)
	}
	raw, err := os.ReadFile(path)
	wantNil(t, "read", err)
	return raw
}
