package e2e

import (
	"errors"
	"net/http"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// A device signs its person in through x/oauth2, which knows the endpoint from discovery; another one is refused (RFC 8628).
func TestDeviceFlowByGo(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		email := "ada@example.test"
		userID := newUser(t, s, email)
		a := newApp(t, s, "--auth-method", "none", "--scope", "openid,email,offline_access",
			"--grant-type", "urn:ietf:params:oauth:grant-type:device_code", "--grant-type", "refresh_token", "--grant-type", "authorization_code")
		a.config.Scopes = []string{oidc.ScopeOpenID, "email", oidc.ScopeOfflineAccess}
		ctx := t.Context()
		refused := make(chan error, 1)
		for _, denies := range []bool{true, false} {
			device, err := a.config.DeviceAuth(ctx)
			if err != nil {
				t.Fatal(err)
			}
			b := rig.NewBrowser(s.Issuer)
			b.Denies = denies
			if _, err := b.SignIn(device.VerificationURIComplete, email, password); err != nil {
				t.Fatal(err)
			}
			if denies {
				go func() {
					_, err := a.config.DeviceAccessToken(ctx, device)
					refused <- err
				}()
				continue
			}
			token, err := a.config.DeviceAccessToken(ctx, device)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := token.Extra("id_token").(string)
			id, err := a.provider.Verifier(&oidc.Config{ClientID: a.client.ID}).Verify(ctx, raw)
			if err != nil || id.Subject != userID {
				t.Errorf("ID token: got %+v, %v, want %s", id, err, userID)
			}
			info, err := a.provider.UserInfo(ctx, a.config.TokenSource(ctx, token))
			if err != nil || info.Email != email {
				t.Errorf("userinfo: got %+v, %v", info, err)
			}
			if next, err := a.config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token(); err != nil || next.AccessToken == token.AccessToken {
				t.Errorf("refresh: %v", err)
			}
		}
		var answer *oauth2.RetrieveError
		if err := <-refused; !errors.As(err, &answer) || answer.ErrorCode != "access_denied" {
			t.Errorf("the refused device got %v, want access_denied", err)
		}
	})
}

// A service gets tokens for itself through x/oauth2, by both styles of authentication, and the API checks them with go-oidc.
func TestClientCredentialsByGo(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		ctx := t.Context()
		const api = "https://orders.example.test"
		if err := s.Command(ctx, nil, "api", "create", "--identifier", api, "--name", "Orders", "--scope", "orders.read=See orders"); err != nil {
			t.Fatal(err)
		}
		provider, err := oidc.NewProvider(ctx, s.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		for method, style := range map[string]oauth2.AuthStyle{"client_secret_basic": oauth2.AuthStyleInHeader, "client_secret_post": oauth2.AuthStyleInParams} {
			client, err := s.NewClient(ctx, method, "", "--auth-method", method, "--grant-type", "client_credentials", "--scope", "orders.read", "--audience", api)
			if err != nil {
				t.Fatal(err)
			}
			config := clientcredentials.Config{
				ClientID: client.ID, ClientSecret: client.Secret, TokenURL: provider.Endpoint().TokenURL, AuthStyle: style,
				Scopes: []string{"orders.read"}, EndpointParams: map[string][]string{"resource": {api}},
			}
			token, err := config.Token(ctx)
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			// What the API does: signature by the published keys, issuer, audience, expiry.
			checked, err := provider.Verifier(&oidc.Config{ClientID: api, SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, token.AccessToken)
			if err != nil || checked.Subject != client.ID {
				t.Errorf("%s: access token: %+v, %v", method, checked, err)
			}
			wrong := config
			wrong.ClientSecret += "x"
			var answer *oauth2.RetrieveError
			if _, err := wrong.Token(ctx); !errors.As(err, &answer) || answer.ErrorCode != "invalid_client" || answer.Response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: with a wrong secret: %v, want 401 invalid_client", method, err)
			}
		}
	})
}
