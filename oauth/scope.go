package oauth

import "strings"

// The scopes OpenID Connect defines (Core §5.4 and §11).
const (
	scopeOpenID        = "openid"
	scopeProfile       = "profile"
	scopeEmail         = "email"
	scopeAddress       = "address"
	scopePhone         = "phone"
	scopeOfflineAccess = "offline_access"
)

var standardScopes = []string{scopeOpenID, scopeProfile, scopeEmail, scopeAddress, scopePhone, scopeOfflineAccess}

// join writes scopes the way OAuth does (RFC 6749 §3.3).
func join(scopes []string) string { return strings.Join(scopes, " ") }
