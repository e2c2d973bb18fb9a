package oauth

import (
	"cmp"
	"time"

	"github.com/ory/fosite"
)

// registration implements what fosite asks of a client.
var _ fosite.Client = (*registration)(nil)

// GetID implements fosite.Client.
func (r *registration) GetID() string { return r.ID }

// GetHashedSecret implements fosite.Client; secrets are compared by authenticate alone.
func (r *registration) GetHashedSecret() []byte { return nil }

// GetRedirectURIs implements fosite.Client. parseAuthorize has compared the redirect URI before, more strictly.
func (r *registration) GetRedirectURIs() []string { return r.RedirectURIs }

// GetGrantTypes implements fosite.Client.
func (r *registration) GetGrantTypes() fosite.Arguments { return r.GrantTypes }

// GetResponseTypes implements fosite.Client. checkResponseType has looked at what is registered; fosite sees codes alone.
func (r *registration) GetResponseTypes() fosite.Arguments { return fosite.Arguments{"code"} }

// GetScopes implements fosite.Client.
func (r *registration) GetScopes() fosite.Arguments { return r.Scopes }

// IsPublic implements fosite.Client.
func (r *registration) IsPublic() bool { return r.Public() }

// GetAudience implements fosite.Client.
func (r *registration) GetAudience() fosite.Arguments { return r.Audiences }

// GetEffectiveLifespan implements fosite.ClientWithCustomTokenLifespans' getter.
func (r *registration) GetEffectiveLifespan(_ fosite.GrantType, kind fosite.TokenType, fallback time.Duration) time.Duration {
	if kind != fosite.AccessToken {
		return fallback
	}
	life := cmp.Or(r.AccessTokenTTL, fallback)
	if most := r.rules().tokenLife; most > 0 {
		life = min(life, most)
	}
	return life
}

// pkceExcused reports whether this request may do without a code challenge: a confidential client that was registered
// so, whose nonce then guards against code injection (RFC 9700 §2.1.1). The certification suite sends neither.
func (r *registration) pkceExcused(nonce string) bool {
	return r.rules().noPKCE && !r.Public() && (nonce != "" || r.suite)
}
