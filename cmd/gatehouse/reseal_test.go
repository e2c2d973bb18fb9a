package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func masterKey() []byte {
	k := make([]byte, seal.KeySize)
	_, _ = rand.Read(k)
	return k
}

// dataUnder opens a database with master keys.
func dataUnder(t *testing.T, d *db.DB, masters ...[]byte) *data {
	t.Helper()
	s, err := seal.New(masters...)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	acts, err := audit.Open(t.Context(), d, s, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &data{db: d, cache: cache.NewMemory(nil), seal: s, audit: acts, log: log}
}

// fillSealed puts something into every place that the master key seals.
func fillSealed(ctx context.Context, d *data) error {
	people, err := openPeople(ctx, d)
	if err != nil {
		return err
	}
	for _, email := range []string{"ada@example.com", "bob@example.com"} {
		if _, err := people.Create(ctx, identity.NewUser{Email: email, Password: "kontra-melone-72-fisch"}); err != nil {
			return err
		}
	}
	if _, err := people.InviteToSignUp(ctx, identity.SignUpInvitation{Email: "carol@example.com"}, 0, "cli"); err != nil {
		return err
	}
	ring, err := openRing(ctx, d, &settings{KeyRotation: 90 * 24 * time.Hour, JWKSCache: time.Hour})
	if err != nil {
		return err
	}
	_, err = ring.Rotate(ctx, "ECDH-ES") // made when it is first asked for otherwise
	ring.Close()
	if err != nil {
		return err
	}
	clients, err := oauth.OpenClients(ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
	if err != nil {
		return err
	}
	c, _, err := clients.Create(ctx, oauth.Client{Name: "App", RedirectURIs: []string{"https://app.example.org/callback"}, AuthMethod: oauth.AuthSecretJWT})
	if err != nil {
		return err
	}
	providers, err := upstream.OpenProviders(ctx, d.db, d.seal, d.audit, nil)
	if err != nil {
		return err
	}
	if _, err := providers.Create(ctx, upstream.Provider{ID: "acme", Name: "Acme", Issuer: "https://acme.example", ClientID: "gatehouse"}, "sesame"); err != nil {
		return err
	}
	stream := oauth.Sealed()
	_, err = d.db.Exec(ctx, `INSERT INTO event_streams (id, client_id, settings, secret, status, reason, created_at, updated_at) VALUES ('s1', $1, '{}', $2, 'enabled', '', $3, $3)`,
		c.ID, d.seal.Seal([]byte("Bearer x"), stream.Purpose("s1", "")), db.At(time.Now()))
	return err
}

// under lists the columns, of any table, in which something is sealed under a master key: whoever adds a place and forgets Sealed is
// found here as soon as fillSealed knows of it.
func under(t *testing.T, d *db.DB, master []byte) (found []string) {
	t.Helper()
	sum := sha256.Sum256(append([]byte("gatehouse key id"), master...))
	mark := append([]byte{1}, sum[:4]...)
	type column struct{ table, name string }
	var columns []column
	query := `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.type = 'BYTEA' ORDER BY 1, 2`
	if d.Engine() == db.Postgres {
		query = `SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema() AND data_type = 'bytea' ORDER BY 1, 2`
	}
	scan := func(row db.Scanner) error {
		var c column
		err := row.Scan(&c.table, &c.name)
		columns = append(columns, c)
		return err
	}
	if err := d.Query(t.Context(), scan, query); err != nil {
		t.Fatal(err)
	}
	if len(columns) < 20 {
		t.Fatalf("%d columns: the search is broken", len(columns))
	}
	for _, c := range columns {
		n := 0
		if err := d.Query(t.Context(), func(row db.Scanner) error {
			var value []byte
			err := row.Scan(&value)
			if bytes.HasPrefix(value, mark) {
				n++
			}
			return err
		}, `SELECT `+c.name+` FROM `+c.table); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found = append(found, c.table+"."+c.name)
		}
	}
	return found
}

func TestReseal(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		oldKey, newKey := masterKey(), masterKey()
		if err := fillSealed(t.Context(), dataUnder(t, d, oldKey)); err != nil {
			t.Fatal(err)
		}
		places := []string{"data_keys.wrapped", "encryption_keys.private", "event_streams.secret", "invitations.sealed", "providers.secret", "secrets.sealed", "signing_keys.private"}
		if diff := cmp.Diff(places, under(t, d, oldKey)); diff != "" {
			t.Fatalf("sealed before: %s", diff)
		}
		both := dataUnder(t, d, newKey, oldKey)
		silent := &terminal{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}

		// Broken off in the middle, and gone on with.
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := reseal(&terminal{ctx: ctx, stderr: io.Discard}, both); err == nil {
			t.Error("a run that was broken off says nothing of it")
		}
		if _, err := both.seal.Reseal(t.Context(), d, seal.Secrets(), func(int) {}); err != nil {
			t.Fatal(err)
		}
		list, err := reseal(silent, both)
		if err != nil {
			t.Fatal(err)
		}
		done := map[string]seal.Resealed{}
		for _, r := range list {
			if r.Lost > 0 || r.Changed+r.Kept == 0 {
				t.Errorf("%+v", r)
			}
			done[r.Name] = r
		}
		if done["data_keys"].Changed != 2 || done["clients"].Changed != 1 || done["secrets"].Changed != 0 || done["secrets"].Kept == 0 {
			t.Errorf("resealed %+v", done)
		}
		if left := under(t, d, oldKey); left != nil {
			t.Errorf("under the old key: %v", left)
		}
		again, err := reseal(silent, both)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range again {
			if r.Changed > 0 || r.Lost > 0 {
				t.Errorf("the second time: %+v", r)
			}
		}

		// Without the old key everything opens as before.
		after := dataUnder(t, d, newKey)
		people, err := openPeople(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		if u, err := people.UserByEmail(t.Context(), "ada@example.com"); err != nil || u.Email != "ada@example.com" {
			t.Errorf("person %+v, %v", u, err)
		}
		if open, err := people.SignUpInvitations(t.Context(), "", 10); err != nil || len(open) != 1 || open[0].Email != "carol@example.com" {
			t.Errorf("invitations %+v, %v", open, err)
		}
		ring, err := openRing(t.Context(), after, &settings{KeyRotation: 90 * 24 * time.Hour, JWKSCache: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ring.Close()
		if _, err := upstream.OpenProviders(t.Context(), d, after.seal, after.audit, nil); err != nil {
			t.Error(err)
		}
		if r, err := oauth.ResealSecrets(t.Context(), d, after.seal, func(int) {}); err != nil || r.Kept != 1 || r.Lost != 0 {
			t.Errorf("secrets of clients %+v, %v", r, err)
		}
	})
}

// A key that is missing is told, and nothing is said to be droppable.
func TestResealWithoutTheOldKey(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	oldKey, newKey := masterKey(), masterKey()
	if err := fillSealed(t.Context(), dataUnder(t, d, oldKey)); err != nil {
		t.Fatal(err)
	}
	both := dataUnder(t, d, newKey, oldKey)
	if _, err := both.seal.Reseal(t.Context(), d, seal.Secrets(), func(int) {}); err != nil { // as far as a run gets
		t.Fatal(err)
	}
	list, err := reseal(&terminal{ctx: t.Context(), stderr: io.Discard}, dataUnder(t, d, newKey))
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, r := range list {
		lost += r.Lost
	}
	var out strings.Builder
	resealRecord{Lost: lost}.write(&out)
	if lost == 0 || !strings.Contains(out.String(), "drop none") || strings.Contains(out.String(), "Everything is under") {
		t.Errorf("%d lost: %s", lost, out.String())
	}
	if left := under(t, d, oldKey); len(left) == 0 {
		t.Error("what cannot be opened was written over")
	}
}
