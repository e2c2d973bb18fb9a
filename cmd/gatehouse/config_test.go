package main

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

// try runs the program with an environment and returns what it says.
func try(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a setting that is wrongly taken starts a server
	defer cancel()
	code = run(ctx, args, func(name string) string { return env[name] }, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open.key")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil { //nolint:gosec // the mode is the point
		t.Fatal(err)
	}
	const public = "https://id.example.test"
	const smtp = "smtp://mail.example.test"
	key := strings.Repeat("A", 43) + "="
	tests := []struct {
		name, value string
		want        string // what the line says after the name
		more        []string
	}{
		{"GATEHOUSE_ISSUER", "http://id.example.test", "use https", nil},
		{"GATEHOUSE_ISSUER", "http://10.0.0.1", "use https", nil},
		{"GATEHOUSE_ISSUER", "http://localhost.example.test", "use https", nil},
		{"GATEHOUSE_ISSUER", "id.example.test", "is not a URL", nil},
		{"GATEHOUSE_ISSUER", "ftp://id.example.test", "is not a URL", nil},
		{"GATEHOUSE_ISSUER", "https://", "is not a URL", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test?x=y", "drop them", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test?", "drop them", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test#", "drop them", nil},
		{"GATEHOUSE_ISSUER", "https://user:secret@id.example.test", "drop it", nil},
		{"GATEHOUSE_ISSUER", "https://ID.example.test", "lower case", nil},
		{"GATEHOUSE_ISSUER", "HTTPS://id.example.test", "lower case", nil},
		{"GATEHOUSE_ISSUER", "https://ä.example.test", "xn--", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test:443", "drop it", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/", "drop it", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/a/", "drop it", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/a//b", "single slashes", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/../b", "single slashes", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/{a}", "single slashes", nil},
		{"GATEHOUSE_ISSUER", "https://id.example.test/a%2fb", "single slashes", nil},
		{"GATEHOUSE_LISTEN", "8080", "HOST:PORT", nil},
		{"GATEHOUSE_LISTEN", "127.0.0.1:99999", "HOST:PORT", nil},
		{"GATEHOUSE_LISTEN", "127.0.0.1:http", "HOST:PORT", nil},
		{"GATEHOUSE_DATABASE_URL", "mysql://user:secret@host/db", "is not a database", nil},
		{"GATEHOUSE_DATABASE_URL", "sqlite:", "is not a database", nil},
		{"GATEHOUSE_DATABASE_URL", "postgres://user:secret@host:port/db", "is not a database", nil},
		{"GATEHOUSE_DATABASE_URL", "postgres://user:secret@127.0.0.1:1/db", "start the database", []string{"GATEHOUSE_MASTER_KEY=" + key}},
		{"GATEHOUSE_DATABASE_URL", "sqlite:" + open + "/x/y.db", "cannot make the database file", nil},
		{"GATEHOUSE_REDIS_URL", "http://:secret@host", "redis://", nil},
		{"GATEHOUSE_REDIS_URL", "redis://:secret@host:port", "redis://", nil},
		{"GATEHOUSE_REDIS_URL", "redis://:secret@127.0.0.1:1", "start Redis", nil},
		{"GATEHOUSE_MASTER_KEY", "secret", "openssl rand -base64 32", nil},
		{"GATEHOUSE_MASTER_KEY", key + ",secret", "openssl rand -base64 32", nil},
		{"GATEHOUSE_MASTER_KEY", ",", "openssl rand -base64 32", nil},
		{"GATEHOUSE_MASTER_KEY", key, "keep one", []string{"GATEHOUSE_MASTER_KEY_FILE=x"}},
		{"GATEHOUSE_MASTER_KEY_FILE", open, "chmod 600", nil},
		{"GATEHOUSE_MASTER_KEY_FILE", dir, "not a file", nil},
		{"GATEHOUSE_TLS_CERT", "x", "both", nil},
		{"GATEHOUSE_TLS_CERT", filepath.Join(dir, "none"), "PEM", []string{"GATEHOUSE_TLS_KEY=y"}},
		{"GATEHOUSE_MTLS_LISTEN", "127.0.0.1:0", "tls-cert", nil},
		{"GATEHOUSE_MTLS_URL", "https://mtls.example.test", "needs", nil},
		{"GATEHOUSE_MTLS_URL", "http://mtls.example.test", "https", []string{"GATEHOUSE_CLIENT_CERT_HEADER=Client-Cert", "GATEHOUSE_TRUSTED_PROXIES=10.0.0.1"}},
		{"GATEHOUSE_MTLS_CA", filepath.Join(dir, "none"), "no such file", []string{"GATEHOUSE_CLIENT_CERT_HEADER=Client-Cert", "GATEHOUSE_TRUSTED_PROXIES=10.0.0.1"}},
		{"GATEHOUSE_CLIENT_CERT_HEADER", "Client-Cert", "proves nothing", nil},
		{"GATEHOUSE_CLIENT_CERT_HEADER", "Client Cert", "not the name", nil},
		{"GATEHOUSE_PAR_TTL", "1h", "choose 1m to 10m", nil},
		{"GATEHOUSE_TRUSTED_PROXIES", "proxy.example.test", "10.0.0.0/8", nil},
		{"GATEHOUSE_TRUSTED_PROXIES", "10.0.0.1,::/0", "name the proxies", nil},
		{"GATEHOUSE_PLACES", filepath.Join(dir, "nowhere.csv"), "give a file as docs/operating.md describes it", nil},
		{"GATEHOUSE_OUTBOUND_NETWORKS", "idp.example.test", "10.0.0.0/8", nil},
		{"GATEHOUSE_OUTBOUND_NETWORKS", "0.0.0.0/0", "name the servers", nil},
		{"GATEHOUSE_SMTP_URL", "mail.example.test", "smtp://", nil},
		{"GATEHOUSE_SMTP_URL", "http://user:secret@mail.example.test", "smtps://", nil},
		{"GATEHOUSE_SMTP_URL", "smtp://user:secret@mail.example.test?tls=maybe", "tls=none", nil},
		{"GATEHOUSE_SMTP_URL", "smtp://user:secret@mail.example.test?x=y", "tls=none", nil},
		{"GATEHOUSE_SMTP_URL", "smtp://user:secret@mail.example.test:0", "65535", nil},
		{"GATEHOUSE_MAIL_FROM", "nobody", "Example <no-reply@example.com>", nil},
		{"GATEHOUSE_STRANGER_SCOPES", `openid,a"b`, "openid,profile,email", nil},
		{"GATEHOUSE_SMTP_URL", "smtp://user:secret@mail.example.test?tls=none", "in the clear", []string{"GATEHOUSE_MAIL_FROM=a@example.test"}},
		{"GATEHOUSE_SMTP_URL", "inbox", "everybody", []string{"GATEHOUSE_ISSUER=" + public}},
		{"GATEHOUSE_MAIL_FROM", "", "sender", []string{"GATEHOUSE_SMTP_URL=" + smtp}},
		{"GATEHOUSE_NAME", "a\nb", "printable", nil},
		{"GATEHOUSE_REGISTRATION", "maybe", "invite", nil},
		{"GATEHOUSE_CERTIFICATION", "on", "takes protection away", []string{"GATEHOUSE_ISSUER=" + public, "GATEHOUSE_SMTP_URL=" + smtp, "GATEHOUSE_MAIL_FROM=a@example.test"}},
		{"GATEHOUSE_CERTIFICATION", "maybe", "force", nil},
		{"GATEHOUSE_CERTIFICATION_CA", filepath.Join(dir, "none"), "needs --certification=on", nil},
		{"GATEHOUSE_CERTIFICATION_CA", filepath.Join(dir, "none"), "no such file", []string{"GATEHOUSE_CERTIFICATION=on"}},
		{"GATEHOUSE_CODE_TTL", "5 minutes", "write it like", nil},
		{"GATEHOUSE_CODE_TTL", "1h", "choose 1s to 10m", nil},
		{"GATEHOUSE_CODE_TTL", "-5s", "choose 1s to 10m", nil},
		{"GATEHOUSE_RESET_TTL", "48h", "choose 1m to 24h", nil},
		{"GATEHOUSE_ACCESS_TOKEN_TTL", "48h", "choose", nil},
		{"GATEHOUSE_SESSION_MAX", "1h", "longer", nil},
		{"GATEHOUSE_AUDIT_RETENTION", "1h", "choose 24h", nil},
		{"GATEHOUSE_KEY_ROTATION", "1h", "twice", nil},
		{"GATEHOUSE_LIMIT_ACCOUNT_TRIES", "0", "choose 1", nil},
		{"GATEHOUSE_LIMIT_BODY", "1", "choose 4096", nil},
		{"GATEHOUSE_PASSWORD_WORKERS", "many", "", nil},
		{"GATEHOUSE_LOG_LEVEL", "loud", "debug", nil},
		{"GATEHOUSE_LOG_FORMAT", "xml", "json", nil},
	}
	for _, test := range tests {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := map[string]string{
				"GATEHOUSE_LISTEN":       "127.0.0.1:0",
				"GATEHOUSE_DATABASE_URL": "sqlite:" + filepath.Join(dir, "test.db"),
			}
			for _, m := range append(test.more, test.name+"="+test.value) {
				name, value, _ := strings.Cut(m, "=")
				env[name] = value
			}
			if env["GATEHOUSE_MASTER_KEY"] == "" && env["GATEHOUSE_MASTER_KEY_FILE"] == "" {
				env["GATEHOUSE_MASTER_KEY_FILE"] = filepath.Join(dir, "master.key")
			}
			if env["GATEHOUSE_ISSUER"] != "" && test.name == "GATEHOUSE_ISSUER" {
				env["GATEHOUSE_SMTP_URL"], env["GATEHOUSE_MAIL_FROM"] = smtp, "a@example.test"
			}
			code, stdout, stderr := try(t, env, "serve")
			if code != exitUsage || stdout != "" {
				t.Errorf("code %d and output %q, want code %d and none", code, stdout, exitUsage)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "gatehouse: "+test.name+" (--") || !strings.Contains(stderr, test.want) {
				t.Errorf("got %q, want one line that names %s and says %q", stderr, test.name, test.want)
			}
			if strings.Contains(stderr, "secret") {
				t.Errorf("%q holds a secret", stderr)
			}
		})
	}
}

// What is needed together is asked for.
func TestMissingSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"issuer on a public address": {map[string]string{"GATEHOUSE_LISTEN": "0.0.0.0:0"}, "GATEHOUSE_ISSUER (--issuer): is needed"},
		"mail server for the public": {map[string]string{"GATEHOUSE_ISSUER": "https://id.example.test"}, "GATEHOUSE_SMTP_URL (--smtp-url): is needed"},
		"inbox on a public address":  {map[string]string{"GATEHOUSE_ISSUER": "http://localhost:8080", "GATEHOUSE_LISTEN": "0.0.0.0:0"}, "GATEHOUSE_SMTP_URL (--smtp-url): is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := try(t, test.env, "serve")
			if code != exitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("code %d, %q, want code %d and %q", code, stderr, exitUsage, test.want)
			}
		})
	}
}

// migrated makes an empty database in dir and gives its URL.
func migrated(t *testing.T, dir string) string {
	t.Helper()
	address := "sqlite:" + filepath.Join(dir, "test.db")
	if code, _, stderr := try(t, nil, "migrate", "--database-url", address); code != exitOK {
		t.Fatal(stderr)
	}
	return address
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	got := unknownVariables([]string{"PATH=/bin", "GATEHOUSE_ISSUR=https://x", "GATEHOUSE_ISSUER=https://x", "GATEHOUSE_DEMO_CLIENT_ID=x", "GATEHOUSE_TEST_POSTGRES=x"})
	if want := []string{"GATEHOUSE_ISSUR"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"30s": 30 * time.Second, "10m": 10 * time.Minute, "1m30s": 90 * time.Second, "24h": 24 * time.Hour,
		"1h30m": 90 * time.Minute, "90d": 90 * 24 * time.Hour, "25h": 25 * time.Hour, "100h": 100 * time.Hour,
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d) = %q, want %q", d, got, want)
		}
	}
}

// A lost key file must not be papered over by a new key: the database could never be opened again.
func TestLostMasterKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "master.key")
	args := []string{"user", "list", "--database-url", migrated(t, dir), "--master-key-file", file}
	if code, _, stderr := try(t, nil, args...); code != exitOK {
		t.Fatal(stderr)
	}
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := try(t, nil, args...)
	if code != exitUsage || !strings.Contains(stderr, "restore the file") {
		t.Errorf("code %d, %q, want code %d and the advice to restore the file", code, stderr, exitUsage)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a new key was made")
	}
}

func TestMasterKeyRotates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "master.key")
	args := []string{"user", "create", "--email", "a@example.test", "--database-url", migrated(t, dir), "--master-key-file", file}
	if code, _, stderr := try(t, nil, args...); code != exitOK {
		t.Fatal(stderr)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte(strings.Repeat("B", 43)+"=\n"), old...), 0o600); err != nil {
		t.Fatal(err)
	}
	args[1], args[2], args[3] = "list", "--limit", "10"
	if code, stdout, stderr := try(t, nil, args...); code != exitOK || !strings.Contains(stdout, "a@example.test") {
		t.Errorf("with a new master key in front: code %d, %s%s", code, stdout, stderr)
	}
}

// Every accepted issuer is the very string that appears in tokens and the very origin that browsers send.
func FuzzIssuer(f *testing.F) {
	for _, s := range []string{"https://id.example.test", "http://127.0.0.1:8080/a/b", "http://[::1]:1", "https://a.test:8443/~x", "https://a%2eb", "https://a.test/%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseIssuer(raw)
		if err != nil {
			return
		}
		site := web.NewSite(u)
		if site.Issuer() != raw {
			t.Errorf("issuer %q became %q", raw, site.Issuer())
		}
		again, err := url.Parse(site.URL("/x"))
		if err != nil || again.Scheme+"://"+again.Host != site.Origin() || again.Path != site.Path("/x") {
			t.Errorf("issuer %q: origin %q and path %q do not make up %q", raw, site.Origin(), site.Path("/x"), site.URL("/x"))
		}
	})
}
