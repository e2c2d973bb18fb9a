package upstream

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// leeway is how far a provider's clock may be off.
const leeway = 2 * time.Minute

// maxSubject is the length of a subject in bytes (OpenID Connect Core §2).
const maxSubject = 255

// microsoftConsumers is the tenant of everybody's private Microsoft account.
const microsoftConsumers = "9188040d-6c67-4c5b-b112-36a304b66dad"

// algorithms may sign ID tokens. All have a public half, so that no key from a provider's list can ever be taken for a shared secret;
// none is not among them (algorithm confusion).
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// allowedAlgorithms leaves of what a provider announces that which may be used; RS256 is what all must know.
func allowedAlgorithms(announced []string) []string {
	allowed := slices.DeleteFunc(slices.Clone(announced), func(a string) bool { return !slices.Contains(algorithms, a) })
	if len(allowed) == 0 {
		return []string{oidc.RS256}
	}
	return allowed
}

// keySet verifies signatures by the keys of a provider.
type keySet = oidc.KeySet

// newKeySet gives the keys at a URL; they are fetched when needed and again when a token names an unknown one.
func newKeySet(c *outbound.Client, url string) keySet {
	return oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), c.HTTP()), url)
}

// openID reads who the person is from the ID token (OpenID Connect Core §3.1.3.7), and what it lacks from the UserInfo endpoint.
func (s *Trips) openID(ctx context.Context, p Provider, m *metadata, t Trip, token *oauth2.Token) (who Identity, err error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return who, errors.New("no ID token")
	}
	_, many := p.manyTenants()
	verifier := oidc.NewVerifier(p.Issuer, m.keys, &oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: m.Algorithms, SkipIssuerCheck: many, Now: s.Now})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return who, err
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return who, err
	}
	switch azp, hasAZP := claims["azp"]; {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(t.Nonce)) != 1:
		return who, errors.New("nonce is not that of the request") // code injection, replay
	case hasAZP && azp != p.ClientID, !hasAZP && len(id.Audience) > 1:
		return who, errors.New("azp is not this server")
	case id.IssuedAt.IsZero() || id.IssuedAt.After(s.Now().Add(leeway)) || id.IssuedAt.Before(t.StartedAt.Add(-leeway)):
		return who, errors.New("iat is not within the trip")
	case id.Subject == "" || len(id.Subject) > maxSubject:
		return who, errors.New("sub is empty or too long")
	}
	if err := p.checkTenant(m, id.Issuer, text(claims, "tid")); err != nil {
		return who, err
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return who, err
		}
	}
	if m.UserInfoURL != "" {
		more := map[string]any{}
		if err := s.bearer(ctx, m.UserInfoURL, token, "application/json", &more); err != nil {
			return who, fmt.Errorf("userinfo: %w", err)
		}
		if more["sub"] != id.Subject { // token substitution (OpenID Connect Core §5.3.2)
			return who, errors.New("userinfo is about somebody else")
		}
		for name, value := range more {
			if _, known := claims[name]; !known { // what is signed stands
				claims[name] = value
			}
		}
	}
	who = p.identity(claims)
	who.Issuer, who.Subject = id.Issuer, id.Subject
	return who, nil
}

// checkTenant holds a Microsoft token to the tenant it names: an issuer that stands for many has the tenant's id in it, and one tenant
// must not speak for another.
func (p Provider) checkTenant(m *metadata, issuer, tenant string) error {
	if p.Kind != Microsoft {
		return nil
	}
	if template, many := p.manyTenants(); many {
		if !tenantPattern.MatchString(tenant) || issuer != strings.Replace(template, "{tenantid}", tenant, 1) {
			return fmt.Errorf("issuer %q is not that of the tenant %q", issuer, tenant)
		}
		if !strings.Contains(m.Issuer, "{tenantid}") && issuer != m.Issuer {
			return fmt.Errorf("issuer %q, want %q", issuer, m.Issuer)
		}
		if tenant == microsoftConsumers && strings.Contains(p.Issuer, "/organizations/") {
			return errors.New("a private account where only those of organizations are let in")
		}
	}
	if len(p.Tenants) > 0 && !slices.Contains(p.Tenants, tenant) {
		return fmt.Errorf("tenant %q is not let in", tenant)
	}
	return nil
}

// identity reads claims. Whatever has not the type it should have is taken for absent.
func (p Provider) identity(claims map[string]any) Identity {
	who := Identity{Fields: map[string]string{}}
	for _, field := range fields {
		if claim := p.claimFor(field); claim != "" {
			if value := text(claims, claim); value != "" {
				who.Fields[field] = value
			}
		}
	}
	who.Email = who.Fields["email"]
	delete(who.Fields, "email")
	who.Verified = p.answersFor(who.Email, claims)
	who.Label = cmp.Or(who.Email, text(claims, "preferred_username"), text(claims, "name"))
	if list, ok := claims["amr"].([]any); ok {
		for _, v := range list {
			if method, ok := v.(string); ok && slices.Contains(knownMethods, method) && !slices.Contains(who.AMR, method) {
				who.AMR = append(who.AMR, method)
			}
		}
	}
	if seconds, ok := claims["auth_time"].(float64); ok && seconds > 0 && seconds < 1e11 {
		who.AuthTime = time.Unix(int64(seconds), 0)
	}
	return who
}

// knownMethods are the authentication methods of RFC 8176 §2.
var knownMethods = []string{
	"face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba", "retina", "sc", "sms", "swk", "tel", "user", "vbm", "wia",
}

// answersFor reports whether the provider has itself verified the address and may say so.
func (p Provider) answersFor(email string, claims map[string]any) bool {
	if email == "" || p.claimFor("email") != "email" { // email_verified is about the claim email and no other
		return false
	}
	switch p.Kind {
	case Google: // an address of another domain was proven once, long ago perhaps; only gmail.com and customers' domains are Google's own
		domain := DomainOf(email)
		return isTrue(claims["email_verified"]) && (domain == "gmail.com" || domain != "" && strings.EqualFold(text(claims, "hd"), domain))
	case Microsoft: // email is what a tenant's administrator wrote there (nOAuth); xms_edov says that the tenant owns the domain
		return isTrue(claims["xms_edov"])
	}
	return isTrue(claims["email_verified"])
}

// isTrue takes what providers write for true.
func isTrue(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return v == "true" || v == "1"
	case float64:
		return v == 1
	}
	return false
}

// maxClaim is the length of a claim in bytes above which it is taken for absent.
const maxClaim = 4000

func text(claims map[string]any, name string) string {
	switch v := claims[name].(type) {
	case string:
		if len(v) <= maxClaim {
			return strings.TrimSpace(v)
		}
	case json.Number:
		return v.String()
	}
	return ""
}
