package e2e

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

func TestCodeFlowByGoOIDC(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		email := "ada@example.test"
		userID := newUser(t, s, email)
		a := newApp(t, s)
		ctx := t.Context()

		before := time.Now().Add(-time.Second)
		code, verifier := a.signIn(rig.NewBrowser(s.Issuer), email, oidc.Nonce("n-0S6_WzA2Mj"))
		token, err := a.config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := token.Extra("id_token").(string)
		id, err := a.provider.Verifier(&oidc.Config{ClientID: a.client.ID}).Verify(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			t.Errorf("at_hash: %v", err)
		}
		var claims struct {
			AuthTime int64    `json:"auth_time"`
			AMR      []string `json:"amr"`
		}
		if err := id.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		switch {
		case id.Nonce != "n-0S6_WzA2Mj":
			t.Errorf("nonce: got %q", id.Nonce)
		case id.Subject != userID:
			t.Errorf("sub: got %q, want the person's id %q", id.Subject, userID)
		case claims.AuthTime < before.Unix() || claims.AuthTime > time.Now().Unix()+1:
			t.Errorf("auth_time: got %d, want now", claims.AuthTime)
		case len(claims.AMR) == 0 || claims.AMR[0] != "pwd":
			t.Errorf("amr: got %v, want pwd", claims.AMR)
		}

		info, err := a.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			t.Fatal(err)
		}
		if info.Subject != id.Subject || info.Email != email || !info.EmailVerified {
			t.Errorf("userinfo: got %q %q %t, want %q %q true", info.Subject, info.Email, info.EmailVerified, id.Subject, email)
		}

		next, err := a.config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
		if err != nil {
			t.Fatal(err)
		}
		if next.RefreshToken == token.RefreshToken || next.AccessToken == token.AccessToken {
			t.Error("refreshing gave the same tokens again")
		}
		if !a.active(next.AccessToken) {
			t.Error("introspection: a fresh access token is not active")
		}
		if got, err := a.post("/revoke", url.Values{"token": {next.RefreshToken}}); err != nil || got.Status != http.StatusOK {
			t.Fatalf("revoke: got %d, %v", got.Status, err)
		}
		if got, err := a.refresh(next.RefreshToken); err != nil || got.Error != "invalid_grant" {
			t.Errorf("refresh after revocation: got %d %q, %v, want invalid_grant", got.Status, got.Error, err)
		}
		if a.active(next.AccessToken) {
			t.Error("introspection: the access token of a revoked grant is active (RFC 7009 §2.1)")
		}
	})
}

// A second visit to a signed-in person with consent must need no page.
func TestSecondVisitNeedsNoPage(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		newUser(t, s, "ada@example.test")
		a := newApp(t, s)
		b := rig.NewBrowser(s.Issuer)
		a.signIn(b, "ada@example.test")
		page, err := b.Open(a.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
		if err != nil {
			t.Fatal(err)
		}
		if !page.Left || page.URL.Query().Get("code") == "" {
			t.Errorf("got %s, want a code at once", page)
		}
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, setup(t))
			newUser(t, s, "ada@example.test")
			a := newApp(t, s)
			b := rig.NewBrowser(s.Issuer)
			code, verifier := a.signIn(b, "ada@example.test")
			token, err := a.config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := token.Extra("id_token").(string)

			stop(t, s)
			a.server = start(t, s.Setup)

			provider, err := oidc.NewProvider(t.Context(), s.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := provider.Verifier(&oidc.Config{ClientID: a.client.ID}).Verify(t.Context(), raw); err != nil {
				t.Errorf("keys: an ID token of before: %v", err)
			}
			if !a.active(token.AccessToken) {
				t.Error("clients and keys: an access token of before is not active")
			}
			page, err := b.Open(a.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
			if err != nil {
				t.Fatal(err)
			}
			if !page.Left || page.URL.Query().Get("code") == "" {
				t.Errorf("sessions and consents: got %s, want a code at once", page)
			}
			got, err := a.refresh(token.RefreshToken)
			if err != nil || got.Status != http.StatusOK || got.RefreshToken == "" {
				t.Errorf("grants: refresh: got %d %q, %v", got.Status, got.Error, err)
			}
			if again := a.tokens("ada@example.test"); again.AccessToken == "" {
				t.Error("users: signing in anew gave no token")
			}
		})
	}
}
