package userfile

import (
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// kratosNames are the traits of Kratos' own example schemas, and the names of the claims.
var kratosNames = func() map[string]string {
	names := map[string]string{
		"traits.name.first": "given_name", "traits.name.last": "family_name", "traits.first_name": "given_name",
		"traits.last_name": "family_name", "traits.username": "preferred_username", "traits.phone": "phone_number",
	}
	for field := range profileFields {
		names["traits."+field] = field
	}
	return names
}()

// fromKratos reads an identity as Kratos' admin API lists it with its credentials.
func fromKratos(b *builder, object map[string]any) {
	b.ExternalID = plain(take(object, "id"))
	b.Disabled = plain(take(object, "state")) == "inactive"
	b.CreatedAt = b.time("created_at", take(object, "created_at"))
	traits, _ := take(object, "traits").(map[string]any)
	credentials, _ := take(object, "credentials").(map[string]any)
	password, _ := credentials["password"].(map[string]any)
	addresses, _ := take(object, "verifiable_addresses").([]any)

	candidates := []string{plain(take(traits, "email"))}
	for _, address := range addresses {
		if address, _ := address.(map[string]any); plain(address["via"]) == "email" {
			candidates = append(candidates, plain(address["value"]))
		}
	}
	identifiers, _ := password["identifiers"].([]any)
	for _, identifier := range identifiers {
		candidates = append(candidates, plain(identifier))
	}
	for _, c := range candidates {
		if b.Email == "" && strings.Contains(c, "@") {
			b.Email = c
		}
	}
	for _, address := range addresses {
		address, _ := address.(map[string]any)
		switch {
		case plain(address["via"]) == "email" && strings.EqualFold(plain(address["value"]), b.Email):
			b.EmailVerified = b.bool("verifiable_addresses.verified", address["verified"])
		case plain(address["via"]) == "email":
			b.leave("verifiable_addresses")
		}
	}
	config, _ := password["config"].(map[string]any)
	if text := plain(config["hashed_password"]); text != "" {
		b.hash(identity.ReadHash(text))
	}
	b.kratosFactors(credentials)
	if strings.Contains(plain(traits["username"]), "@") {
		if !strings.EqualFold(plain(take(traits, "username")), b.Email) {
			b.leave("traits.username")
		}
	}
	b.rest("traits.", traits, kratosNames)
	for _, name := range []string{"schema_id", "schema_url", "state_changed_at", "updated_at", "recovery_addresses", "organization_id", "available_aal"} {
		delete(object, name)
	}
	b.rest("", object, nil) // metadata_public, metadata_admin…
}

func (b *builder) kratosFactors(credentials map[string]any) {
	for kind, c := range credentials {
		c, _ := c.(map[string]any)
		config, _ := c["config"].(map[string]any)
		switch kind {
		case "password", "code", "link", "link_recovery", "code_recovery":
		case "totp":
			if address := plain(config["totp_url"]); address != "" {
				b.totpURL(address)
			} else {
				b.noFactor("the export does not hold its secret: list identities with include_credential=totp")
			}
		case "webauthn", "passkey":
			b.noFactor("%s cannot be taken over", kind)
		default: // oidc, saml, lookup_secret…
			b.leave("credentials." + kind)
		}
	}
}
