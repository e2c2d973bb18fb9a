package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// credentialFields is what a client may be known by beside its secret, and what its tokens may be tied to.
type credentialFields struct {
	AuthAlg      *string `name:"auth-alg" aliases:"token-endpoint-auth-signing-alg" help:"The one algorithm of its client assertions: RS256, PS256, ES256, EdDSA, or HS256 with client_secret_jwt." placeholder:"ALG"`
	JWKS         *string `name:"jwks" help:"File with its public keys (JSON Web Key Set); an empty name removes them." placeholder:"FILE"`
	JWKSURI      *string `name:"jwks-uri" help:"Where it publishes its public keys." placeholder:"URL"`
	TLSSubjectDN *string `name:"tls-client-auth-subject-dn" help:"Subject of its TLS certificate (RFC 4514), such as CN=client,O=Example,C=DE." placeholder:"DN"`
	TLSDNS       *string `name:"tls-client-auth-san-dns" help:"… or its DNS name." placeholder:"NAME"`
	TLSURI       *string `name:"tls-client-auth-san-uri" help:"… or its URI." placeholder:"URI"`
	TLSIP        *string `name:"tls-client-auth-san-ip" help:"… or its IP address." placeholder:"ADDRESS"`
	TLSEmail     *string `name:"tls-client-auth-san-email" help:"… or its email address." placeholder:"EMAIL"`
	MTLSBound    *bool   `name:"certificate-bound" negatable:"" help:"Tie its access tokens to its TLS certificate (RFC 8705)."`
	DPoPBound    *bool   `name:"dpop" negatable:"" help:"Give it only tokens that are tied to a key of its own (DPoP, RFC 9449)."`
	RequirePAR   *bool   `name:"require-par" negatable:"" help:"Refuse authorization requests that were not pushed (RFC 9126)."`
	Profile      *string `name:"profile" help:"Security profile: oauth2.1, oidc-basic (a nonce may stand in for PKCE), fapi2-security, fapi2-message-signing or mcp. [oauth2.1]" placeholder:"PROFILE"`

	keys json.RawMessage
}

// read fetches the key set from its file.
func (f *credentialFields) read() error {
	if f.JWKS == nil || *f.JWKS == "" {
		return nil
	}
	file, err := os.Open(*f.JWKS)
	if err != nil {
		return badSetting("jwks", "%v", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return badSetting("jwks", "%v", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return badSetting("jwks", "%s is not JSON: %v", *f.JWKS, err)
	}
	f.keys = compact.Bytes()
	return nil
}

func (f *credentialFields) apply(c *oauth.Client) {
	set(&c.AuthAlg, f.AuthAlg)
	if f.JWKS != nil {
		c.JWKS = f.keys
	}
	set(&c.JWKSURI, f.JWKSURI)
	set(&c.TLSSubjectDN, f.TLSSubjectDN)
	set(&c.TLSDNS, f.TLSDNS)
	set(&c.TLSURI, f.TLSURI)
	set(&c.TLSIP, f.TLSIP)
	set(&c.TLSEmail, f.TLSEmail)
	set(&c.CertificateBound, f.MTLSBound)
	set(&c.DPoPBound, f.DPoPBound)
	set(&c.RequirePAR, f.RequirePAR)
	set(&c.Profile, f.Profile)
}

// writeCredentials shows what is set.
func writeCredentials(row func(name, value string), c oauth.Client) {
	row("auth_alg", c.AuthAlg)
	row("jwks", string(c.JWKS))
	row("jwks_uri", c.JWKSURI)
	row("tls_subject_dn", c.TLSSubjectDN)
	row("tls_san_dns", c.TLSDNS)
	row("tls_san_uri", c.TLSURI)
	row("tls_san_ip", c.TLSIP)
	row("tls_san_email", c.TLSEmail)
	flag := func(name string, on bool) {
		if on {
			row(name, yes(on))
		}
	}
	flag("certificate_bound", c.CertificateBound)
	flag("dpop", c.DPoPBound)
	flag("require_par", c.RequirePAR)
	row("profile", c.Profile)
}
