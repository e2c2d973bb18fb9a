package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

const (
	adminPerson = "admin@example.test"
	demoPerson  = "demo@example.test"
	demoClient  = "demo"
)

// oneTimeAccount is an account whose password must be changed at the first sign-in.
type oneTimeAccount struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// seed fills an empty database with two people, and sees to it that the demo app has a client and knows its secret.
// It returns the accounts it made.
func seed(ctx context.Context, people *identity.Directory, clients *oauth.Clients, s *settings, site web.Site) ([]oneTimeAccount, error) {
	if err := seedClient(ctx, clients, s, site); err != nil {
		return nil, fmt.Errorf("seed the demo client: %w", err)
	}
	some, err := people.Users(ctx, "", 1)
	if err != nil || len(some) > 0 {
		return nil, err
	}
	var accounts []oneTimeAccount
	for _, p := range []struct{ email, role, name string }{
		{adminPerson, identity.RoleAdmin, "Admin Example"},
		{demoPerson, identity.RoleUser, "Demo Example"},
	} {
		given, family, _ := strings.Cut(p.name, " ")
		password := oneTimePassword()
		_, err := people.Create(ctx, identity.NewUser{
			Email: p.email, Password: password, EmailVerified: true, MustChangePassword: true, Role: p.role,
			Profile: identity.Profile{Name: p.name, GivenName: given, FamilyName: family},
		})
		if errors.Is(err, identity.ErrEmailTaken) { // another replica seeds, too
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("seed %s: %w", p.email, err)
		}
		accounts = append(accounts, oneTimeAccount{p.email, password})
	}
	return accounts, nil
}

// oneTimePassword has 100 random bits in a shape that can be read out and typed.
func oneTimePassword() string {
	t := strings.ToLower(rand.Text())
	return t[:5] + "-" + t[5:10] + "-" + t[10:15] + "-" + t[15:20]
}

// seedClient makes the demo app's client. Its secret exists nowhere but in the file; if that is gone, or belongs to
// another database, the client gets a new one.
func seedClient(ctx context.Context, clients *oauth.Clients, s *settings, site web.Site) error {
	mark := sha256.Sum256([]byte(s.Storage.DatabaseURL))
	database := hex.EncodeToString(mark[:8])
	var secret string
	have, err := clients.Get(ctx, demoClient)
	switch {
	case errors.Is(err, db.ErrNotFound):
		client := oauth.Client{
			ID: demoClient, Name: "Gatehouse demo", Owner: "you, on this machine", RequirePKCE: true,
			RedirectURIs: []string{"http://127.0.0.1:8081/callback"}, // any port will do (RFC 8252 §7.3)
			ClientURI:    "http://127.0.0.1:8081/",
		}.WithDefaults()
		client.LogoutAddresses = demoLogout(s)
		_, secret, err = clients.Create(ctx, client)
		if errors.Is(err, db.ErrConflict) { // another replica seeds, too; it has the secret
			return nil
		}
	case err == nil:
		if want := demoLogout(s); have.BackchannelLogoutURI != want.BackchannelLogoutURI || len(have.PostLogoutRedirectURIs) == 0 {
			have.LogoutAddresses = want
			if err := clients.Update(ctx, have); err != nil {
				return err
			}
		}
		file, readErr := readDemoFile(s.DemoFile)
		if readErr == nil && file["GATEHOUSE_DEMO_DATABASE"] == database && file["GATEHOUSE_DEMO_CLIENT_SECRET"] != "" {
			if file["GATEHOUSE_DEMO_ISSUER"] == site.Issuer() {
				return nil
			}
			secret = file["GATEHOUSE_DEMO_CLIENT_SECRET"]
			break
		}
		secret, err = clients.RotateSecret(ctx, demoClient)
	}
	if err != nil {
		return err
	}
	return writePrivate(s.DemoFile, fmt.Sprintf(
		"GATEHOUSE_DEMO_ISSUER=%s\nGATEHOUSE_DEMO_CLIENT_ID=%s\nGATEHOUSE_DEMO_CLIENT_SECRET=%s\nGATEHOUSE_DEMO_DATABASE=%s\n",
		site.Issuer(), demoClient, secret, database))
}

// demoLogout are the demo app's addresses for signing out. A person comes back to it on any port; the server calls it where it is known to
// listen.
func demoLogout(s *settings) oauth.LogoutAddresses {
	a := oauth.LogoutAddresses{PostLogoutRedirectURIs: []string{"http://127.0.0.1:8081/"}}
	if _, port, err := net.SplitHostPort(s.DemoListen); err == nil && port != "0" && loopbackListen(s.DemoListen) {
		a.BackchannelLogoutURI = "http://" + s.DemoListen + "/backchannel-logout"
	}
	return a
}

// readDemoFile reads lines NAME=value.
func readDemoFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return values, nil
}

// writePrivate replaces a file by one that only its owner can read.
func writePrivate(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".demo-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
