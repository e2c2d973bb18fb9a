package identity

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

const week = 7 * 24 * time.Hour

// ask closes a person's account at their own word.
func (w *world) ask(t *testing.T, u User) time.Time {
	t.Helper()
	_, s := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
	due, err := w.AskErasure(t.Context(), u.ID, s.ID, false)
	wantNil(t, "ask for erasure", err)
	return due
}

func TestErasureClosesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		link, err := w.NewLink(t.Context(), u.ID, Verify, "")
		wantNil(t, "link", err)
		w.revocations()
		due, err := w.AskErasure(t.Context(), u.ID, s.ID, false)
		wantNil(t, "ask", err)
		if !due.Equal(w.now().Add(week)) {
			t.Errorf("due %s, want in seven days", due)
		}
		if got := w.revocations(); !cmp.Equal(got, []string{u.ID + "/" + s.ID, u.ID + "/"}) {
			t.Errorf("revoked %v, want all of the person's tokens", got)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "session", err, ErrNotFound)
		_, err = w.VerifyEmail(t.Context(), link, u.ID)
		wantErr(t, "link", err, ErrLink)
		_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", time.Time{})
		wantErr(t, "sign-in", err, ErrNotFound)

		got, err := w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		if err != nil || got.Status != StatusClosing {
			t.Errorf("password: %+v, %v; want a closing account", got.Status, err)
		}
		wantNil(t, "cancel", w.CancelErasure(t.Context(), u.ID))
		_, err = w.Session(t.Context(), token)
		wantErr(t, "old session after the cancellation", err, ErrNotFound)
		w.start(t, u.ID, "", AMRPassword)
		w.pass(2 * week)
		if erased, err := w.EraseDue(t.Context()); len(erased) > 0 || err != nil {
			t.Errorf("erased %v, %v after a cancellation", erased, err)
		}
		wantErr(t, "cancel again", w.CancelErasure(t.Context(), u.ID), ErrNotFound)
	})
}

func TestErasureAfterTheGracePeriod(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.ask(t, u)
		w.pass(week - time.Second)
		if erased, err := w.EraseDue(t.Context()); len(erased) > 0 || err != nil {
			t.Errorf("erased %v, %v too early", erased, err)
		}
		w.pass(time.Second)
		erased, err := w.EraseDue(t.Context())
		if err != nil || len(erased) != 1 || erased[0].Email != u.Email {
			t.Fatalf("erased %v, %v; want the person, with the address for the last mail", erased, err)
		}
		_, err = w.User(t.Context(), u.ID)
		wantErr(t, "erased person", err, ErrNotFound)
		_, err = w.User(t.Context(), other.ID)
		wantNil(t, "other person", err)
		if erased, err := w.EraseDue(t.Context()); len(erased) > 0 || err != nil {
			t.Errorf("erased %v, %v a second time", erased, err)
		}
	})
}

func TestAttackCancelAfterGrace(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.ask(t, u)
		w.pass(week)
		wantErr(t, "cancel", w.CancelErasure(t.Context(), u.ID), ErrNotFound)
		if got, err := w.User(t.Context(), u.ID); err != nil || got.Status != StatusClosing {
			t.Errorf("status %q, %v after a refused cancellation; want closing", got.Status, err)
		}
		_, err := w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantErr(t, "password after the grace period", err, ErrCredentials)
	})
}

// Who was disabled for abuse must not come back by asking for erasure and cancelling it.
func TestAttackCancelOpensDisabledAccount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		closing, disabled := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.ask(t, closing)
		wantNil(t, "disable", w.SetStatus(t.Context(), closing.ID, StatusDisabled))
		wantNil(t, "disable", w.SetStatus(t.Context(), disabled.ID, StatusDisabled))
		_, err := w.AskErasure(t.Context(), disabled.ID, "", false)
		wantNil(t, "ask", err)
		for _, u := range []User{closing, disabled} {
			wantErr(t, "cancel", w.CancelErasure(t.Context(), u.ID), ErrNotFound)
			_, err := w.CheckPassword(t.Context(), u.Email, goodPassword, home)
			wantErr(t, "password", err, ErrCredentials)
		}
		w.pass(week)
		if erased, err := w.EraseDue(t.Context()); len(erased) != 2 || err != nil {
			t.Errorf("erased %v, %v; want both", erased, err)
		}
	})
}

func TestEnablingCallsErasureOff(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.ask(t, u)
		wantNil(t, "enable", w.SetStatus(t.Context(), u.ID, StatusActive))
		w.pass(week)
		if erased, err := w.EraseDue(t.Context()); len(erased) > 0 || err != nil {
			t.Errorf("erased %v, %v", erased, err)
		}
	})
}

func TestAttackErasureFromAnEndedSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		_, s := w.start(t, u.ID, "", AMRPassword)
		_, foreign := w.start(t, other.ID, "", AMRPassword)
		wantNil(t, "end", w.EndSession(t.Context(), u.ID, s.ID))
		for what, id := range map[string]string{"ended": s.ID, "of another": foreign.ID} {
			_, err := w.AskErasure(t.Context(), u.ID, id, false)
			wantErr(t, "session "+what, err, ErrNotFound)
		}
		if got, err := w.User(t.Context(), u.ID); err != nil || got.Status != StatusActive {
			t.Errorf("status %q, %v; want active", got.Status, err)
		}
	})
}

// A thief who closes an account under a new password must not have the last word either.
func TestOwnerOfClosedAccountSetsNewPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.ask(t, u)
		for _, purpose := range []Purpose{Verify, ChangeEmail} {
			_, err := w.NewLink(t.Context(), u.ID, purpose, "")
			wantErr(t, string(purpose), err, ErrNotFound)
		}
		link, err := w.NewLink(t.Context(), u.ID, Reset, "")
		wantNil(t, "link", err)
		_, err = w.ResetPassword(t.Context(), link, otherPassword)
		wantNil(t, "reset", err)
		got, err := w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		if err != nil || got.Status != StatusClosing {
			t.Errorf("new password: %q, %v; want a closing account", got.Status, err)
		}
		wantNil(t, "cancel", w.CancelErasure(t.Context(), u.ID))
	})
}

// Rows of an erased person that turn up again, from a copy without the keys, stay closed: under no key of the database do they open.
func TestAttackErasedRowsFromBackup(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{Name: "Ada Example"}})
		wantNil(t, "create", err)
		enrol(t, w, u.ID)
		_, s := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
		var email, profile, seed, device, dataKey []byte
		wantNil(t, "backup", w.db.QueryRow(t.Context(), `SELECT u.email, p.sealed, t.secret, s.device, k.wrapped FROM users u JOIN data_keys k ON k.user_id = u.id JOIN profiles p ON p.user_id = u.id
			JOIN totp t ON t.user_id = u.id JOIN sessions s ON s.user_id = u.id WHERE u.id = $1`, u.ID).Scan(&email, &profile, &seed, &device, &dataKey))
		if _, err := w.Erase(t.Context(), u.ID, false); err != nil {
			t.Fatalf("erase: %v", err)
		}
		again := w.create(t, "eve@example.com")
		if _, err := w.db.Exec(t.Context(), `UPDATE profiles SET sealed = $2 WHERE user_id = $1`, again.ID, profile); err != nil {
			t.Fatal(err)
		}
		if _, err := w.User(t.Context(), again.ID); err == nil {
			t.Error("the profile opened under another person's key")
		}
		var newKey []byte
		wantNil(t, "key", w.db.QueryRow(t.Context(), `SELECT wrapped FROM data_keys WHERE user_id = $1`, again.ID).Scan(&newKey))
		for _, key := range [][]byte{newKey, make([]byte, len(dataKey))} {
			own, err := w.ownSealer(u.ID, key)
			if err != nil {
				continue
			}
			for purpose, sealed := range map[string][]byte{
				emailPurpose(u.ID): email, profilePurpose(u.ID): profile, totpPurpose(u.ID): seed, devicePurpose(u.ID, s.ID): device,
			} {
				if plain, err := own.Open(sealed, purpose); err == nil {
					t.Errorf("%s opened: %q", purpose, plain)
				}
			}
		}
	})
}

// What is left of an erased person in the whole database is the id, in rows that name nobody.
func TestErasureLeavesThePseudonymOnly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{Name: "Ada Example"}})
		wantNil(t, "create", err)
		enrol(t, w, u.ID)
		w.ask(t, u)
		w.pass(week)
		if _, err := w.EraseDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, table := range w.tablesOfPeople(t) {
			if strings.HasPrefix(table, "audit") {
				continue
			}
			var n int
			wantNil(t, table, w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n))
			if n != 0 {
				t.Errorf("%s has %d rows after the only person was erased", table, n)
			}
		}
		if rows := w.audited(t); !slices.Contains(rows, "user.delete success "+u.ID) {
			t.Errorf("audit rows %v, want the erasure by id", rows)
		}
	})
}

// Whoever gets the database file after an erasure and has the master key, too, finds no key of the person in it.
func TestAttackErasedKeyInTheFile(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t)
	d, err := db.Open(t.Context(), url)
	wantNil(t, "open", err)
	t.Cleanup(func() { _ = d.Close() })
	dbtest.Migrate(t, d)
	w := newWorld(t, d, Config{})
	u := w.create(t, "ada@example.com")
	var dataKey []byte
	wantNil(t, "key", w.db.QueryRow(t.Context(), `SELECT wrapped FROM data_keys`).Scan(&dataKey))
	inFile := func() bool {
		var busy, pages, moved int
		wantNil(t, "checkpoint", w.db.QueryRow(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved))
		raw, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:"))
		wantNil(t, "read", err)
		return bytes.Contains(raw, dataKey)
	}
	if !inFile() {
		t.Fatal("the key is not in the file even before")
	}
	w.ask(t, u)
	w.pass(week)
	if _, err := w.EraseDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if inFile() {
		t.Error("the key is in the file")
	}
}

func TestAttackReusedAddressGetsNoRights(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		admin, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Role: RoleAdmin})
		wantNil(t, "create", err)
		link, err := w.NewLink(t.Context(), admin.ID, Reset, "")
		wantNil(t, "link", err)
		token, _ := w.start(t, admin.ID, "", AMRPassword)
		if _, err := w.Erase(t.Context(), admin.ID, true); err != nil {
			t.Fatal(err)
		}
		again := w.create(t, "ada@example.com")
		if again.ID == admin.ID || again.Role != RoleUser {
			t.Errorf("new account %s as %s under the address of an erased administrator", again.ID, again.Role)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "old session", err, ErrNotFound)
		_, err = w.ResetPassword(t.Context(), link, otherPassword)
		wantErr(t, "old link", err, ErrLink)
		if left, err := w.RecoveryCodesLeft(t.Context(), again.ID); left != 0 || err != nil {
			t.Errorf("%d recovery codes, %v", left, err)
		}
	})
}

func TestLastAdminStays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		admin := func(email string) User {
			u, err := w.Create(t.Context(), NewUser{Email: email, Password: goodPassword, Role: RoleAdmin})
			wantNil(t, "create", err)
			return u
		}
		ada, bob := admin("ada@example.com"), admin("bob@example.com")
		wantNil(t, "disable", w.SetStatus(t.Context(), bob.ID, StatusDisabled))
		_, s := w.start(t, ada.ID, "", AMRPassword)
		_, err := w.AskErasure(t.Context(), ada.ID, s.ID, false)
		wantErr(t, "ask", err, ErrLastAdmin)
		_, err = w.Erase(t.Context(), ada.ID, false)
		wantErr(t, "erase", err, ErrLastAdmin)

		wantNil(t, "enable", w.SetStatus(t.Context(), bob.ID, StatusActive))
		people := []string{ada.ID, bob.ID}
		next := make(chan string, len(people))
		for _, id := range people {
			next <- id
		}
		gone := 0
		results := make(chan error, len(people))
		for range people {
			go func() {
				_, err := w.Erase(t.Context(), <-next, false)
				results <- err
			}()
		}
		for range people {
			switch err := <-results; {
			case err == nil:
				gone++
			case !errors.Is(err, ErrLastAdmin) && !errors.Is(err, db.ErrUnavailable):
				t.Errorf("got error %v, want ErrLastAdmin", err)
			}
		}
		if gone > 1 {
			t.Error("both administrators are gone")
		}
	})
}

func TestUntoldErasuresAreToldOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		_, err := w.AskErasure(t.Context(), u.ID, "", false)
		wantNil(t, "ask", err)
		w.ask(t, other) // was told by the page
		people, err := w.UntoldErasures(t.Context())
		if err != nil || len(people) != 1 || people[0].ID != u.ID {
			t.Errorf("untold %v, %v; want the one that an administrator closed", people, err)
		}
		if people, err := w.UntoldErasures(t.Context()); len(people) > 0 || err != nil {
			t.Errorf("untold %v, %v again", people, err)
		}
		before, err := w.ErasureDue(t.Context(), u.ID)
		wantNil(t, "due", err)
		w.pass(time.Hour)
		if due, err := w.AskErasure(t.Context(), u.ID, "", false); !due.Equal(before) || err != nil {
			t.Errorf("asked twice: due %s, %v; want %s", due, err, before)
		}
	})
}

// tablesOfPeople lists the tables whose rows belong to a person.
func (w *world) tablesOfPeople(t *testing.T) (tables []string) {
	t.Helper()
	query := `SELECT m.name FROM sqlite_schema m WHERE m.type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) c WHERE c.name = 'user_id') ORDER BY 1`
	if w.db.Engine() == db.Postgres {
		query = `SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'user_id' ORDER BY 1`
	}
	wantNil(t, "schema", w.db.Query(t.Context(), scanID(&tables), query))
	return tables
}

// whereHeld says for each table of people where its rows stand in a person's file of data (see docs/privacy.md).
var whereHeld = map[string]string{
	"profiles":        "profile.json",
	"preferences":     "preferences.json",
	"data_keys":       "nowhere: it is a key, not data",
	"totp":            "factors.json",
	"recovery_codes":  "factors.json",
	"passkeys":        "factors.json",
	"sessions":        "sessions.json",
	"mail_links":      "mail_links.json",
	"linked_accounts": "linked_accounts.json",
	"erasures":        "account.json",
	"imported":        "account.json",
	"exports":         "the file itself",
	"consents":        "consents.json",
	"grants":          "grants.json",
	"delegations":     "grants.json",
	"session_apps":    "session_apps.json",
	"login_requests":  "requests.json",
	"muted_apps":      "muted_apps.json",
	"audit":           "activity.json",

	"group_members":     "groups_and_roles.json",
	"group_invitations": "groups_and_roles.json",
	"user_roles":        "groups_and_roles.json",
	"user_attributes":   "attributes.json",
}

// Whoever adds a table about people adds it to the file that people get, and lets it go with its person.
func TestEveryTableOfPeopleIsExportedAndErased(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, table := range w.tablesOfPeople(t) {
			if strings.HasPrefix(table, "audit_") { // a month of it
				continue
			}
			if whereHeld[table] == "" {
				t.Errorf("%s has a user_id, but is in no person's file of data", table)
			}
			if table == "audit" { // names nobody, and stays
				continue
			}
			var cascades int
			query := `SELECT COUNT(*) FROM pragma_foreign_key_list($1) WHERE "table" = 'users' AND on_delete = 'CASCADE'`
			if w.db.Engine() == db.Postgres {
				query = `SELECT COUNT(*) FROM pg_constraint WHERE conrelid = CAST($1 AS regclass) AND confrelid = CAST('users' AS regclass) AND confdeltype = 'c'`
			}
			wantNil(t, table, w.db.QueryRow(t.Context(), query, table).Scan(&cascades))
			if cascades == 0 {
				t.Errorf("%s does not go with its person (ON DELETE CASCADE)", table)
			}
		}
	})
}

func TestExportLifecycle(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		_, err := w.Export(t.Context(), u.ID)
		wantErr(t, "none yet", err, ErrNotFound)
		wantNil(t, "ask", w.AskExport(t.Context(), u.ID))
		wantNil(t, "ask twice", w.AskExport(t.Context(), u.ID))
		e, err := w.ClaimExport(t.Context())
		wantNil(t, "claim", err)
		_, err = w.ClaimExport(t.Context())
		wantErr(t, "claim twice", err, ErrNotFound)
		wantNil(t, "advance", w.AdvanceExport(t.Context(), e, 2, 7))
		if got, err := w.Export(t.Context(), u.ID); err != nil || got.Done != 2 || got.Parts != 7 || got.Ready() {
			t.Errorf("in the making: %+v, %v", got, err)
		}
		_, err = w.OpenExport(t.Context(), u.ID, e.ID)
		wantErr(t, "open too early", err, ErrNotFound)

		w.pass(abandoned) // the process died
		e, err = w.ClaimExport(t.Context())
		wantNil(t, "take over", err)
		file := []byte("all of it")
		expires, err := w.FinishExport(t.Context(), e, file)
		if err != nil || !expires.Equal(w.now().Add(24*time.Hour)) {
			t.Errorf("finished until %s, %v; want 24 hours", expires, err)
		}
		_, err = w.FinishExport(t.Context(), e, file)
		wantErr(t, "finish twice", err, ErrNotFound)
		got, err := w.OpenExport(t.Context(), u.ID, e.ID)
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("opened %q, %v", got, err)
		}
		_, err = w.OpenExport(t.Context(), other.ID, e.ID)
		wantErr(t, "another person's", err, ErrNotFound)
		var sealed []byte
		wantNil(t, "row", w.db.QueryRow(t.Context(), `SELECT sealed FROM exports`).Scan(&sealed))
		if bytes.Contains(sealed, file) {
			t.Error("the file lies in the table unsealed")
		}

		w.pass(24 * time.Hour)
		_, err = w.OpenExport(t.Context(), u.ID, e.ID)
		wantErr(t, "expired", err, ErrNotFound)
		wantNil(t, "purge", w.Purge(t.Context()))
		var n int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM exports`).Scan(&n))
		if n != 0 {
			t.Errorf("%d files left after the purge", n)
		}
	})
}

func TestOneReplicaMakesAnExport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		wantNil(t, "ask", w.AskExport(t.Context(), u.ID))
		if n := race(t, ErrNotFound, func() error { _, err := w.ClaimExport(t.Context()); return err }); n != 1 {
			t.Errorf("%d callers make the file, want 1", n)
		}
	})
}

func TestHoldings(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{Name: "Ada Example"}})
		wantNil(t, "create", err)
		w.create(t, "bob@example.com")
		enrol(t, w, u.ID)
		_, s := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
		_, err = w.NewLink(t.Context(), u.ID, ChangeEmail, "new@example.com")
		wantNil(t, "link", err)
		h, err := w.Holdings(t.Context(), u.ID)
		wantNil(t, "holdings", err)
		if h.Account.Email != "ada@example.com" || h.Profile.Name != "Ada Example" || h.Factors.TOTP == nil || h.Factors.RecoveryCodesLeft != recoveryCodes {
			t.Errorf("got %+v", h)
		}
		if len(h.Sessions) != 1 || h.Sessions[0].ID != s.ID || h.Sessions[0].Device.Address != home {
			t.Errorf("sessions %+v", h.Sessions)
		}
		if len(h.MailLinks) != 1 || h.MailLinks[0].Email != "new@example.com" {
			t.Errorf("links %+v", h.MailLinks)
		}
	})
}
