package e2e

import (
	"slices"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// Groups, roles, permissions and an attribute, set up by commands, arrive at an app on go-oidc.
func TestRolesByGoOIDC(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		ctx, email, api := t.Context(), "roles@example.test", "https://orders.example.test"
		newUser(t, s, email)
		for _, command := range [][]string{
			{"api", "create", "--identifier", api, "--name", "Orders", "--permission", "orders:read=Read orders"},
			{"role", "create", "--name", "Clerk", "--permission", api + "#orders:read"},
			{"group", "create", "--name", "Sales"},
			{"group", "create", "--name", "Berlin"},
			{"group", "add", "Sales", "--group", "Berlin", "--role", "Clerk"},
			{"group", "add", "Berlin", "--member", email},
			{"attribute", "create", "--name", "badge"},
			{"attribute", "set", "badge", email, "--value", "E12"},
			{"attribute", "add", "badge", "--claim", "badge_no", "--scope", "profile"},
		} {
			if err := s.Command(ctx, nil, command...); err != nil {
				t.Fatal(err)
			}
		}
		scopes := []string{oidc.ScopeOpenID, "profile", "groups", "roles", "permissions"}
		args := []string{"--audience", api, "--allow-group", "Sales"}
		for _, scope := range scopes {
			args = append(args, "--scope", scope)
		}
		a := newApp(t, s, args...)
		a.config.Scopes = scopes
		code, verifier := a.signIn(rig.NewBrowser(s.Issuer), email)
		token, err := a.config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := token.Extra("id_token").(string)
		id, err := a.provider.Verifier(&oidc.Config{ClientID: a.client.ID}).Verify(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		info, err := a.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			t.Fatal(err)
		}
		access, err := a.provider.Verifier(&oidc.Config{ClientID: api}).Verify(ctx, token.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		type claims struct {
			Groups      []string `json:"groups"`
			Roles       []string `json:"roles"`
			Permissions []string `json:"permissions"`
			Badge       string   `json:"badge_no"`
		}
		for where, tc := range map[string]struct {
			read func(v any) error
			want claims
		}{
			"ID token":     {id.Claims, claims{Groups: []string{"Berlin", "Sales"}, Roles: []string{"Clerk"}, Permissions: []string{"orders:read"}}},
			"userinfo":     {info.Claims, claims{Groups: []string{"Berlin", "Sales"}, Roles: []string{"Clerk"}, Permissions: []string{"orders:read"}, Badge: "E12"}},
			"access token": {access.Claims, claims{Permissions: []string{"orders:read"}}},
		} {
			var got claims
			if err := tc.read(&got); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			if !slices.Equal(got.Groups, tc.want.Groups) || !slices.Equal(got.Roles, tc.want.Roles) || !slices.Equal(got.Permissions, tc.want.Permissions) || got.Badge != tc.want.Badge {
				t.Errorf("%s: got %+v, want %+v", where, got, tc.want)
			}
		}
	})
}
