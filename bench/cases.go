package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

const (
	redirectURI = "http://127.0.0.1/callback" // never called: the driver reads the redirect
	email       = "bench@example.com"
	password    = "granit+ziege-41-tandem"
	verifier    = "QmVuY2htYXJraW5nLWlzLW5vdC1hLXNlY3JldC1vZi1hbnlib2R5"
)

// fixture is what the cases need: one app and one person who is signed in and has agreed.
type fixture struct {
	basic     string // Authorization line of the app
	cookies   string // Cookie line of the person
	authorize string // path with query, asking for an ID token only
	offline   string // the same with a refresh token
	token     string // an access token of the person, with scope openid
	telling   string // one that covers the profile and the address
}

// furnish registers the app and the person, signs the person in and lets them agree to everything asked later.
func furnish(ctx context.Context, s *rig.Server) (*fixture, error) {
	app, err := s.NewClient(
		ctx, "Bench", redirectURI,
		"--grant-type", "authorization_code", "--grant-type", "refresh_token", "--grant-type", "client_credentials",
		"--id-token-alg", "ES256",
	)
	if err != nil {
		return nil, err
	}
	if _, err := s.NewUser(ctx, email, password); err != nil {
		return nil, err
	}
	f := &fixture{basic: "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":"+app.Secret)) + "\r\n"}
	f.authorize = authorizePath(app.ID, "openid")
	f.offline = authorizePath(app.ID, "openid offline_access")
	profile := authorizePath(app.ID, "openid profile email")

	browser := rig.NewBrowser(s.Issuer)
	if err := agree(browser, f.authorize); err != nil {
		return nil, err
	}
	if err := agree(browser, f.offline); err != nil {
		return nil, err
	}
	if err := agree(browser, profile); err != nil {
		return nil, err
	}
	var pairs []string
	for _, c := range browser.Cookies() {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	f.cookies = "Cookie: " + strings.Join(pairs, "; ") + "\r\n"

	c, err := dial(strings.TrimPrefix(s.Issuer, "http://"), false)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := f.exchangeCode(c, f.authorize); err != nil {
		return nil, err
	}
	if f.token, err = c.field("access_token"); err != nil {
		return nil, err
	}
	if err := f.exchangeCode(c, profile); err != nil {
		return nil, err
	}
	f.telling, err = c.field("access_token")
	return f, err
}

func authorizePath(clientID, scope string) string {
	challenge := sha256.Sum256([]byte(verifier))
	return "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "scope": {scope},
		"state": {"bench"}, "nonce": {"bench"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode()
}

// agree signs the person in if need be, agrees, and sees that a code comes of it.
func agree(b *rig.Browser, path string) error {
	page, err := b.SignIn(path, email, password)
	if err != nil {
		return err
	}
	if answer := page.URL.Query(); answer.Get("code") == "" {
		return fmt.Errorf("sent back without a code: %s", answer.Get("error"))
	}
	return nil
}

// exchangeCode is the whole code flow of a person who is signed in and has agreed: two requests.
func (f *fixture) exchangeCode(c *conn, path string) error {
	if err := c.get(path, f.cookies); err != nil {
		return err
	}
	if c.status != http.StatusFound && c.status != http.StatusSeeOther {
		return c.want(http.StatusSeeOther)
	}
	_, rest, ok := bytes.Cut(c.location, []byte("code="))
	if !ok || !bytes.HasPrefix(c.location, []byte(redirectURI)) {
		return fmt.Errorf("authorize did not send a code but to %.100s", c.location)
	}
	code, _, _ := bytes.Cut(rest, []byte("&"))
	form := "grant_type=authorization_code&redirect_uri=" + url.QueryEscape(redirectURI) + "&code_verifier=" + verifier + "&code=" + string(code)
	if err := c.post("/token", f.basic, form); err != nil {
		return err
	}
	return c.want(http.StatusOK)
}

// same is the preparation of an operation that needs none.
func same(op operation) func(*conn) (operation, error) {
	return func(*conn) (operation, error) { return op, nil }
}

func get(path, headers string) func(*conn) (operation, error) {
	return same(func(c *conn) error {
		if err := c.get(path, headers); err != nil {
			return err
		}
		return c.want(http.StatusOK)
	})
}

func (f *fixture) cases() []testCase {
	return []testCase{
		{name: "discovery", prepare: get("/.well-known/openid-configuration", "")},
		{name: "JWKS", prepare: get("/jwks", "")},
		{name: "client credentials", target: 0.25, prepare: same(func(c *conn) error {
			if err := c.post("/token", f.basic, "grant_type=client_credentials"); err != nil {
				return err
			}
			return c.want(http.StatusOK)
		})},
		{name: "introspection", target: 0.30, prepare: same(func(c *conn) error {
			if err := c.post("/introspect", f.basic, "token="+f.token); err != nil {
				return err
			}
			if !bytes.Contains(c.body, []byte(`"active":true`)) {
				return fmt.Errorf("not active: %.200s", c.body)
			}
			return c.want(http.StatusOK)
		})},
		{name: "userinfo", target: 0.30, prepare: get("/userinfo", "Authorization: Bearer "+f.token+"\r\n")},
		{name: "userinfo with profile and e-mail", prepare: get("/userinfo", "Authorization: Bearer "+f.telling+"\r\n")},
		{name: "refresh", target: 0.12, prepare: f.refresh},
		{name: "code exchange", target: 0.08, prepare: same(func(c *conn) error { return f.exchangeCode(c, f.authorize) })},
		{name: "code exchange with refresh token", prepare: same(func(c *conn) error { return f.exchangeCode(c, f.offline) })},
	}
}

// floors show what one statement costs on this machine, whoever makes it.
func floors(bareAddress string) []testCase {
	return []testCase{
		{name: "bare handler, one row read", address: bareAddress, prepare: get("/read", "")},
		{name: "bare handler, one row written", address: bareAddress, prepare: get("/write", "")},
	}
}

// refresh gives each connection a grant of its own and rotates it on and on.
func (f *fixture) refresh(c *conn) (operation, error) {
	if err := f.exchangeCode(c, f.offline); err != nil {
		return nil, err
	}
	token, err := c.field("refresh_token")
	if err != nil {
		return nil, err
	}
	return func(c *conn) error {
		if err := c.post("/token", f.basic, "grant_type=refresh_token&refresh_token="+token); err != nil {
			return err
		}
		if err := c.want(http.StatusOK); err != nil {
			return err
		}
		next, err := c.field("refresh_token")
		if err == nil && next == token {
			err = errors.New("the refresh token was not rotated")
		}
		token = next
		return err
	}, nil
}
