package oauth

import (
	"fmt"
	"slices"

	"github.com/gatehouse-id/gatehouse/keys"
)

// What the profile fapi2-security (FAPI 2.0 Security Profile) demands of a client, and where it is held:
//
//	private_key_jwt or mutual TLS           validateProfile
//	assertions by PS256, ES256, EdDSA only  Client.assertionAlgs
//	the issuer alone as their audience      Server.checkAudience
//	PKCE with S256                          validateProfile, parseProof
//	requests pushed (PAR)                   Client.pushes
//	tokens tied to a key or certificate     Client.withProfile, Server.possession
//	ID tokens not by RS256                  validateProfile
func (c Client) validateProfile() error {
	switch c.Profile {
	case "":
		return nil
	case ProfileFAPI2:
	default:
		return fmt.Errorf("security_profile %q: use %s or none", c.Profile, ProfileFAPI2)
	}
	switch {
	case !slices.Contains([]string{AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS}, c.AuthMethod):
		return fmt.Errorf("token_endpoint_auth_method: the profile %s needs %s, %s or %s", c.Profile, AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS)
	case !c.RequirePKCE:
		return fmt.Errorf("require_pkce: the profile %s excuses nobody from PKCE", c.Profile)
	case !c.DPoPBound && !c.CertificateBound:
		return fmt.Errorf("dpop_bound_access_tokens: the profile %s ties tokens to a key (DPoP) or a certificate", c.Profile)
	case keys.Alg(c.IDTokenAlg) == keys.RS256:
		return fmt.Errorf("id_token_signed_response_alg: the profile %s needs ES256 or EdDSA", c.Profile)
	}
	return nil
}

// withProfile fills what a profile implies.
func (c Client) withProfile() Client {
	if c.Profile != ProfileFAPI2 {
		return c
	}
	c.DPoPBound = c.DPoPBound || !c.CertificateBound
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = string(keys.ES256)
	}
	return c
}

// pushes reports whether the client's authorization requests must be pushed (RFC 9126 §6).
func (c Client) pushes() bool { return c.RequirePAR || c.Profile == ProfileFAPI2 }
