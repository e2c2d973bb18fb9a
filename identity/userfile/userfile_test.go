package userfile_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/identity/userfile"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const horse = "correct horse battery staple"

// source is a file and what should become of it. The files were made with Python's hashlib and published test vectors.
type source struct {
	format, file string
	options      userfile.Options
	passwords    map[string]string // that open the accounts afterwards
	want         []string
}

func sources(t *testing.T) []source {
	t.Helper()
	decode := func(s string) []byte {
		raw, err := identity.DecodeBase64(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	hashes, err := os.Open("testdata/auth0-hashes.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hashes.Close() })
	index, err := userfile.OpenHashes(hashes)
	if err != nil {
		t.Fatal(err)
	}
	return []source{
		{
			format: userfile.Keycloak, file: "keycloak.json", options: userfile.Options{Map: map[string]string{"mobile": "phone_number"}},
			passwords: map[string]string{"user1@example.com": horse, "user2@example.com": horse, "user4@example.com": "password", "user6@example.com": horse},
			want: []string{
				"1 imported user1@example.com verified name=/Ada/Example1 phone=+49301234567 left=department,groups,realmRoles",
				"2 imported user2@example.com verified must-change two-step name=/Ada/Example2 left=realmRoles,requiredActions.CONFIGURE_TOTP",
				"3 imported user3@example.com disabled name=/Ada/Example3 left=realmRoles",
				"4 imported user4@example.com name=/Ada/Example4 phone=+49301234568 left=realmRoles",
				"5 refused second_factor: ",
				"6 imported user6@example.com verified name=/Ada/Example6 left=realmRoles",
				"7 refused password_hash: hashing by \"md5-of-somebody\" is not known",
				"8 skipped: is the service account of an app",
				"9 refused email: is missing",
			},
		},
		{
			format: userfile.Auth0, file: "auth0.ndjson", options: userfile.Options{Hashes: index},
			passwords: map[string]string{"ann@example.com": "U*U", "cid@example.com": horse, "dan@example.com": horse, "eve@example.com": horse},
			want: []string{
				"1 imported ann@example.com verified name=ann@example.com// left=user_metadata.colour",
				"2 imported ben@example.com disabled name=/Ben/Example",
				"3 imported cid@example.com two-step name=//",
				"4 imported dan@example.com name=//",
				"5 imported eve@example.com name=//",
				"6 refused password_hash: hashing by \"md5\" is not known, or too weak to be taken over",
				"7 imported gil@example.com verified no-password name=// left=identities.google-oauth2",
				"8 refused second_factor: only authenticator apps can be taken over, and one of them",
			},
		},
		{
			format: userfile.Kratos, file: "kratos.json",
			options:   userfile.Options{DropFactor: true},
			passwords: map[string]string{"kim0@example.com": "U*U", "kim1@example.com": "password", "kim3@example.com": "user1password"},
			want: []string{
				"1 imported kim0@example.com verified name=/Kim/Example",
				"2 imported kim1@example.com verified name=/Kim/Example left=metadata_public.plan",
				"3 imported kim2@example.com verified disabled name=/Kim/Example",
				"4 imported kim3@example.com verified name=Kim Example// phone=+49301234569",
				"5 refused password_hash: hashing by \"md5\" is not known",
				"6 imported kim5@example.com verified no-password two-step name=/Kim/Example left=credentials.lookup_secret,credentials.oidc",
				"7 imported kim6@example.com verified no-password name=/Kim/Example dropped second_factor: webauthn cannot be taken over",
			},
		},
		{
			format: userfile.Firebase, file: "firebase.json",
			options: userfile.Options{DropHash: true, Firebase: identity.FirebaseParameters{
				SignerKey:     decode("jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="),
				SaltSeparator: decode("Bw=="), Rounds: 8, MemoryCost: 14,
			}},
			passwords: map[string]string{"user1@example.com": "user1password"},
			want: []string{
				"1 imported user1@example.com verified name=User One//",
				"2 imported user2@example.com disabled no-password name=// phone=+493012345 left=customAttributes,providerUserInfo.google.com",
				"3 refused email: is missing",
				"4 imported user4@example.com no-password name=// dropped password_hash: Firebase hash of 3 bytes, where the signer key has 64",
			},
		},
		{
			format: userfile.CSV, file: "own.csv",
			passwords: map[string]string{"ina@example.com": horse, "jon@example.com": horse},
			want: []string{
				"1 imported ina@example.com verified must-change name=/Ina/Example, née Other phone=+49301234567 left=shoe size",
				"2 imported jon@example.com two-step name=/Jon/",
				"3 refused email_verified: is neither true nor false; password_hash: the form of the hash is not known; created_at: is not a time like 2026-01-31T15:04:05Z; second_factor: the secret is not base32",
			},
		},
		{
			format: userfile.JSON, file: "own.ndjson",
			passwords: map[string]string{"lea@example.com": horse},
			want: []string{
				"1 imported lea@example.com verified name=// left=shoe_size,tags",
				"2 imported mia@example.com disabled no-password name=//",
			},
		},
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		t.Run(s.format, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) { s.run(t, d) })
		})
	}
}

func (s source) run(t *testing.T, d *db.DB) {
	t.Helper()
	master := make([]byte, seal.KeySize)
	_, _ = rand.Read(master)
	sealer, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	people, err := identity.New(t.Context(), identity.Config{DB: d, Cache: cache.NewMemory(nil), Seal: sealer, Audit: audit.New(d, log, nil), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	into, err := people.NewImport(identity.ImportConfig{Source: s.format, TrustEmail: true})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join("testdata", s.file))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := userfile.Open(s.format, file, s.options)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bring(t, people, into, record))
	}
	for n := range got {
		if n < len(s.want) && strings.HasSuffix(s.want[n], ": ") && strings.HasPrefix(got[n], s.want[n]) { // one of several reasons
			got[n] = s.want[n]
		}
	}
	if diff := cmp.Diff(s.want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", s.file, diff)
	}
	for email, password := range s.passwords {
		if _, err := people.CheckPassword(t.Context(), email, "wrong", netip.MustParseAddr("192.0.2.7")); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s with a wrong password: %v", email, err)
		}
		if _, err := people.CheckPassword(t.Context(), email, password, netip.MustParseAddr("192.0.2.7")); err != nil {
			t.Errorf("%s with %q: %v", email, password, err)
		}
	}
}

// bring imports one record and tells what became of it.
func bring(t *testing.T, people *identity.Directory, into *identity.Import, r userfile.Record) string {
	t.Helper()
	list := func(problems []identity.Problem) string {
		var out []string
		for _, p := range problems {
			out = append(out, p.Field+": "+p.Reason)
		}
		return strings.Join(out, "; ")
	}
	if r.Skipped != "" {
		return fmt.Sprintf("%d skipped: %s", r.Row, r.Skipped)
	}
	if len(r.Problems) > 0 {
		return fmt.Sprintf("%d refused %s", r.Row, list(r.Problems))
	}
	became, err := into.Add(t.Context(), []identity.Arrival{r.Arrival})
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%d %s", r.Row, became[0].Outcome)
	if became[0].Outcome != identity.Admitted {
		return line + " " + list(became[0].Problems)
	}
	u, err := people.UserByEmail(t.Context(), r.Email)
	if err != nil {
		t.Fatal(err)
	}
	line += " " + u.Email
	for _, flag := range []struct {
		name string
		on   bool
	}{
		{"verified", u.EmailVerified},
		{"disabled", u.Status == identity.StatusDisabled},
		{"no-password", !u.HasPassword},
		{"must-change", u.MustChangePassword},
		{"two-step", u.HasTOTP},
	} {
		if flag.on {
			line += " " + flag.name
		}
	}
	line += " name=" + u.Profile.Name + "/" + u.Profile.GivenName + "/" + u.Profile.FamilyName
	if u.Profile.PhoneNumber != "" {
		line += " phone=" + u.Profile.PhoneNumber
	}
	if len(r.Left) > 0 {
		line += " left=" + strings.Join(r.Left, ",")
	}
	if len(r.Dropped) > 0 {
		line += " dropped " + list(r.Dropped)
	}
	return line
}

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, format, text, want string }{
		{"nothing", userfile.JSON, "", "the file is empty"},
		{"nothing in a table", userfile.CSV, "", "the file is empty"},
		{"no JSON", userfile.JSON, "email\na@example.com\n", "does not begin with { or ["},
		{"cut off in an array", userfile.Kratos, `[{"id":"1"},{"id"`, "broken"},
		{"cut off after a comma", userfile.Kratos, `[{"id":"1"},`, "broken"},
		{"cut off in a line", userfile.JSON, "{}\n{\"id\":", "broken"},
		{"no users", userfile.Keycloak, `{"realm":"x","clients":[]}`, `no "users"`},
		{"users are no list", userfile.Keycloak, `{"users":{}}`, "is no list"},
		{"null for a person", userfile.Keycloak, `{"users":[null]}`, "null"},
		{"a number for a person", userfile.JSON, `[1]`, "broken"},
		{"no email column", userfile.CSV, "mail\nx\n", "no column is named email"},
		{"a column twice", userfile.CSV, "email,email\nx,y\n", "column 2"},
		{"a line too short", userfile.CSV, "email,id\nx\n", "broken"},
		{"a quote left open", userfile.CSV, "email\n\"x\n", "broken"},
		{"unknown format", "xml", "<x/>", "no known format"},
		{"endless person", userfile.JSON, `{"x":"` + strings.Repeat("x", 6<<20) + `"}`, "longer than"},
		{"endless field", userfile.CSV, "email\n\"" + strings.Repeat("x", 6<<20) + `"`, "longer than"},
		{"endless skipped text", userfile.Keycloak, `{"x":"` + strings.Repeat("x", 6<<20) + `","users":[]}`, "longer than"},
		{"too deep", userfile.Keycloak, `{"x":` + strings.Repeat("[", 20000), "broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := userfile.Open(c.format, strings.NewReader(c.text), userfile.Options{})
			for err == nil {
				_, err = r.Next()
			}
			if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that says %q", err, c.want)
			}
		})
	}
	if _, err := userfile.Open(userfile.CSV, strings.NewReader("email\n"), userfile.Options{Map: map[string]string{"a": "role"}}); err == nil {
		t.Error("an attribute can be mapped to what is no field of a profile")
	}
	if _, err := userfile.OpenHashes(strings.NewReader("{\"x\":1}\n")); err == nil {
		t.Error("a file of hashes without ids passes")
	}
	if _, err := userfile.OpenHashes(strings.NewReader(strings.Repeat("x", 2<<20))); err == nil {
		t.Error("an endless line of hashes passes")
	}
}

// A file of any size is read in the memory of a few records.
func TestFilesAreStreamed(t *testing.T) {
	t.Parallel()
	const people = 30_000
	in, out := io.Pipe()
	go func() {
		_, _ = io.WriteString(out, `{"realm":"x","users":[`)
		for n := range people {
			if n > 0 {
				_, _ = io.WriteString(out, ",")
			}
			_, _ = fmt.Fprintf(out, `{"id":"%d","email":"p%d@example.com","attributes":{"note":[%q]}}`, n, n, strings.Repeat("x", 1000))
		}
		_, _ = io.WriteString(out, `],"roles":{}}`)
		_ = out.Close()
	}()
	r, err := userfile.Open(userfile.Keycloak, in, userfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || record.Row != n+1 || record.ExternalID != fmt.Sprint(n) {
			t.Fatalf("record %d: %+v, %v", n, record.Arrival, err)
		}
	}
	if n != people {
		t.Errorf("read %d people, want %d", n, people)
	}
}

func FuzzOpen(f *testing.F) {
	for format, file := range map[string]string{
		userfile.Keycloak: "keycloak.json", userfile.Auth0: "auth0.ndjson", userfile.Kratos: "kratos.json",
		userfile.Firebase: "firebase.json", userfile.CSV: "own.csv", userfile.JSON: "own.ndjson",
	} {
		data, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(format, data)
	}
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		r, err := userfile.Open(format, bytes.NewReader(data), userfile.Options{Firebase: identity.FirebaseParameters{SignerKey: []byte("0123456789abcdef"), Rounds: 8, MemoryCost: 14}})
		if err != nil {
			return
		}
		for n := 1; ; n++ {
			record, err := r.Next()
			if err != nil {
				return
			}
			if record.Row != n {
				t.Fatalf("row %d is numbered %d", n, record.Row)
			}
			if record.PasswordHash != "" {
				if again, err := identity.ReadHash(record.PasswordHash); err == nil && again != record.PasswordHash {
					t.Errorf("hash %q reads as %q", record.PasswordHash, again)
				}
			}
			if record.TOTP != nil && len(record.TOTP) < 10 {
				t.Errorf("secret of %d bytes", len(record.TOTP))
			}
		}
	})
}
