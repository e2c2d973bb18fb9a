package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// twoServers starts a second Gatehouse, at which the people of the first sign in. It has another host, because cookies do not
// tell ports of one host apart.
func twoServers(t *testing.T, here rig.Setup, args ...string) (first, second *rig.Server) {
	t.Helper()
	there := embedded(t)
	name := "http://127.0.0.1:" + strconv.Itoa(there.Port)
	there.Env = append([]string{"GATEHOUSE_ISSUER=" + name}, there.Env...)
	second = start(t, there)
	second.Issuer = name
	here.Env = append([]string{"GATEHOUSE_OUTBOUND_NETWORKS=127.0.0.0/8,::1"}, here.Env...)
	first = start(t, here)
	client, err := second.NewClient(t.Context(), "First Gatehouse", first.Issuer+"/login/acme/callback", "--scope", "openid,email,profile")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(client.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := append([]string{"provider", "create", "acme", "--name", "Acme", "--issuer", second.Issuer, "--client-id", client.ID, "--secret-file", secret}, args...)
	if err := first.Command(t.Context(), nil, command...); err != nil {
		t.Fatal(err)
	}
	if err := first.Command(t.Context(), nil, "provider", "check", "acme"); err != nil {
		t.Fatal(err)
	}
	// The running server notices within a second.
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		page, err := rig.NewBrowser(first.Issuer).Open("/login")
		if err != nil {
			t.Fatal(err)
		}
		if page.ByID("provider-acme") != nil {
			return first, second
		}
		if time.Since(begun) > patience {
			t.Fatal("the server does not offer the provider")
		}
	}
}

// A person of a second Gatehouse signs in to an app of the first, is known there at the second visit, and is out at once when the
// operator turns the second one off.
func TestSignInAtAnotherGatehouse(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(t *testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := twoServers(t, setup(t), "--trust-email", "--domain", "example.test")
			newUser(t, second, "ada@example.test")
			client, err := first.NewClient(t.Context(), "App", "https://app.example.test/callback")
			if err != nil {
				t.Fatal(err)
			}
			there := rig.NewBrowser(second.Issuer)
			visit := func(here *rig.Browser) *rig.Page {
				t.Helper()
				page, err := here.Open(authorizeURL(first, client, nil))
				if err != nil {
					t.Fatal(err)
				}
				if page, err = here.Submit(page, "provider-acme", nil); err != nil || !page.Left || !strings.HasPrefix(page.URL.String(), second.Issuer+"/authorize?") {
					t.Fatalf("sent to %v, %v", page, err)
				}
				back, err := there.SignIn(page.URL.String(), "ada@example.test", password)
				if err != nil {
					t.Fatal(err)
				}
				if page, err = here.Open(back.URL.String()); err != nil {
					t.Fatal(err)
				}
				return page
			}
			here := rig.NewBrowser(first.Issuer)
			page := visit(here)
			if page, err = here.Submit(page, "consent-allow", nil); err != nil || !page.Left || page.URL.Query().Get("code") == "" {
				t.Fatalf("after consent at %v, %v", page, err)
			}
			if page = visit(rig.NewBrowser(first.Issuer)); !page.Left { // in another browser; the consent is remembered
				t.Errorf("the second visit ends at %v", page)
			}
			var people []struct {
				Email    string `json:"email"`
				Verified bool   `json:"email_verified"`
			}
			if err := first.Command(t.Context(), &people, "user", "list"); err != nil || len(people) != 1 || people[0].Email != "ada@example.test" || !people[0].Verified {
				t.Errorf("people %+v, %v", people, err)
			}
			if page, err = here.Open("/account/linked"); err != nil || page.ByID("linked") == nil {
				t.Errorf("linked accounts: %v, %v", page, err)
			}
			if err := first.Command(t.Context(), nil, "provider", "update", "acme", "--disabled"); err != nil {
				t.Fatal(err)
			}
			if page, err = here.Open("/account"); err != nil || page.ByID("login-submit") == nil {
				t.Errorf("after the provider is disabled the session opens %v, %v", page, err)
			}
		})
	}
}

// The same in Chromium, with somebody who has an account at both, for the policy on forms holds each step of the way.
func TestSignInAtAnotherGatehouseInChromium(t *testing.T) {
	t.Parallel()
	first, second := twoServers(t, embedded(t), "--domain", "example.test")
	newUser(t, second, "ada@example.test")
	newUser(t, first, "ada@home.test")
	app := newCallback(t, "127.0.0.1", "")
	client, err := first.NewClient(t.Context(), "Demo app", app.url)
	if err != nil {
		t.Fatal(err)
	}
	w := newWindow(t)
	w.open(authorizeURL(first, client, nil))
	w.shot("login")
	w.fill("email", "ada@example.test")
	w.click("login-company")
	w.fill("email", "ada@example.test")
	w.fill("password", password)
	w.click("login-submit")
	w.click("consent-allow")
	w.see("connect-submit")
	if got := w.location(); !strings.HasPrefix(got.String(), first.Issuer+"/login/connect") {
		t.Fatalf("at %s", got)
	}
	w.shot("connect")
	w.fill("email", "ada@home.test")
	w.fill("password", password)
	w.click("connect-submit")
	w.click("consent-allow")
	w.see("back")
	if got := <-app.sent; got.Get("code") == "" {
		t.Errorf("the app was called with %v", got)
	}
	w.open(first.Issuer + "/account/linked")
	w.see("linked")
	w.shot("linked")

	w.open(first.Issuer + "/logout")
	w.click("logout-confirm")
	w.open(first.Issuer + "/register")
	w.shot("register")
	w.open(authorizeURL(first, client, url.Values{"prompt": {"consent"}}))
	w.click("provider-acme") // and nothing more: the session there is alive, the account linked
	w.see("consent-allow")
	w.click("consent-deny")
	w.see("back")
	if got := <-app.sent; got.Get("error") != "access_denied" {
		t.Errorf("the app was called with %v", got)
	}
}
