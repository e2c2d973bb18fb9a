package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/go-jose/go-jose/v3" // the version in fosite's interface; nothing of it runs
	"github.com/hashicorp/go-retryablehttp"
	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/handler/pkce"
)

// settings are fosite's, with the answers that depend on the request.
type settings struct{ *fosite.Config }

// GetEnforcePKCE excuses a confidential client that was registered so and sends a nonce instead (RFC 9700 §2.1.1). The
// challenge lives inside the code's record, so that a failed attempt cannot remove it (PKCE downgrade).
func (settings) GetEnforcePKCE(ctx context.Context) bool { return !requestState(ctx).pkceExcused }

// newProvider puts fosite together by hand: its compose package picks storage by type assertion and would bring
// handlers we do not want.
func (s *Server) newProvider() fosite.OAuth2Provider {
	// Every field that fosite would fill lazily is set: its getters write without a lock.
	config := &fosite.Config{
		AccessTokenLifespan:            s.AccessTokenTTL,
		RefreshTokenLifespan:           s.GrantTTL,
		AuthorizeCodeLifespan:          s.CodeTTL,
		IDTokenLifespan:                s.IDTokenTTL,
		IDTokenIssuer:                  s.Site.Issuer(),
		TokenURL:                       s.Site.URL("/token"),
		EnforcePKCE:                    true,
		EnablePKCEPlainChallengeMethod: false,
		ScopeStrategy:                  fosite.ExactScopeStrategy,
		AudienceMatchingStrategy:       fosite.ExactAudienceMatchingStrategy,
		RefreshTokenScopes:             []string{scopeOfflineAccess},
		OmitRedirectScopeParam:         true,
		MinParameterEntropy:            fosite.MinParameterEntropy,
		RedirectSecureChecker:          func(_ context.Context, u *url.URL) bool { return validateRedirectURI(u.String()) == nil },
		ClientAuthenticationStrategy:   s.authenticateClient,
		HTTPClient:                     noFetch(),
		JWKSFetcherStrategy:            refuse{},
	}
	own := settings{config}
	code := codeStrategy{}
	access := &accessTokens{s}
	refresh := refreshStrategy{s.RefreshKey}
	id := &openid.IDTokenHandleHelper{IDTokenStrategy: &idTokens{s}}
	store := &store{s}

	codeGrant := &oauth2.AuthorizeExplicitGrantHandler{
		AccessTokenStrategy: access, RefreshTokenStrategy: refresh, AuthorizeCodeStrategy: code,
		CoreStorage: store, TokenRevocationStorage: store, Config: own,
	}
	oidcCode := &openid.OpenIDConnectExplicitHandler{
		OpenIDConnectRequestStorage: store, OpenIDConnectRequestValidator: openid.NewOpenIDConnectRequestValidator(&hintSigner{s}, own),
		IDTokenHandleHelper: id, Config: own,
	}
	proof := &pkce.Handler{AuthorizeCodeStrategy: code, Storage: store, Config: own}

	// The order matters: PKCE and OpenID Connect need the code issued, an ID token needs the access token (at_hash).
	config.AuthorizeEndpointHandlers = fosite.AuthorizeEndpointHandlers{codeGrant, oidcCode, proof}
	config.TokenEndpointHandlers = fosite.TokenEndpointHandlers{
		codeGrant, proof, oidcCode,
		&oauth2.RefreshTokenGrantHandler{AccessTokenStrategy: access, RefreshTokenStrategy: refresh, TokenRevocationStorage: store, Config: own},
		&openid.OpenIDConnectRefreshHandler{IDTokenHandleHelper: id, Config: own},
		&oauth2.ClientCredentialsGrantHandler{
			HandleHelper: &oauth2.HandleHelper{AccessTokenStrategy: access, AccessTokenStorage: store, Config: own}, Config: own,
		},
		&decoupledGrant{store, GrantDeviceCode, "device_code", access, refresh, id},
		&decoupledGrant{store, GrantCIBA, "auth_req_id", access, refresh, id},
		&tokenExchange{store, access},
		&bearerGrant{store, access},
	}
	return fosite.NewOAuth2Provider(store, own)
}

// noFetch refuses every request: nothing that fosite might want to fetch is offered (server-side request forgery).
func noFetch() *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.RetryMax = 0
	c.HTTPClient = &http.Client{Transport: refuse{}}
	return c
}

var errNoFetch = errors.New("outbound requests are not made here")

type refuse struct{}

// Resolve implements fosite.JWKSFetcherStrategy.
func (refuse) Resolve(context.Context, string, bool) (*jose.JSONWebKeySet, error) {
	return nil, errNoFetch
}

// RoundTrip implements http.RoundTripper.
func (refuse) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errNoFetch
}
