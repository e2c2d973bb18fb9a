package userfile

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// keycloakNames are the attributes that Keycloak's own mappers turn into claims.
var keycloakNames = map[string]string{
	"name": "name", "middleName": "middle_name", "nickname": "nickname", "profile": "profile", "picture": "picture", "website": "website",
	"gender": "gender", "birthdate": "birthdate", "zoneinfo": "zoneinfo", "locale": "locale", "phoneNumber": "phone_number",
	"phoneNumberVerified": phoneVerified, "formatted": "address.formatted", "street": "address.street_address",
	"locality": "address.locality", "region": "address.region", "postal_code": "address.postal_code", "country": "address.country",
	"phone_number": "phone_number", "middle_name": "middle_name",
}

// fromKeycloak reads a user of a realm export (kc.sh export), in the form of Keycloak 8 and later or the one before.
func fromKeycloak(b *builder, object map[string]any) {
	b.ExternalID = plain(take(object, "id"))
	if client := plain(take(object, "serviceAccountClientId")); client != "" {
		b.Skipped = "is the service account of an app"
		return
	}
	b.Email = plain(take(object, "email"))
	b.EmailVerified = b.bool("emailVerified", take(object, "emailVerified"))
	if enabled := take(object, "enabled"); enabled != nil {
		b.Disabled = !b.bool("enabled", enabled)
	}
	b.CreatedAt = b.time("createdTimestamp", take(object, "createdTimestamp"))
	b.set("given_name", take(object, "firstName"))
	b.set("family_name", take(object, "lastName"))
	switch username := plain(take(object, "username")); {
	case !strings.Contains(username, "@"):
		b.set("preferred_username", username)
	case !strings.EqualFold(username, b.Email):
		b.leave("username") // ours have no @, so that nobody takes one for an address
	}
	actions, _ := take(object, "requiredActions").([]any)
	for _, action := range actions {
		switch name := plain(action); name {
		case "UPDATE_PASSWORD":
			b.MustChangePassword = true
		case "VERIFY_EMAIL":
			b.EmailVerified = false
		default:
			b.leave("requiredActions." + name)
		}
	}
	credentials, _ := take(object, "credentials").([]any)
	for _, c := range credentials {
		if c, ok := c.(map[string]any); ok {
			b.keycloakCredential(c)
		}
	}
	if attributes, ok := take(object, "attributes").(map[string]any); ok {
		b.rest("", attributes, keycloakNames)
	}
	for _, name := range []string{"totp", "access", "disableableCredentialTypes", "notBefore", "emailConstraint", "self", "origin"} {
		delete(object, name) // says nothing that was not said
	}
	for name, v := range object { // groups, realmRoles, clientRoles, federatedIdentities…
		switch v := v.(type) {
		case nil:
		case []any:
			if len(v) > 0 {
				b.leave(name)
			}
		case map[string]any:
			if len(v) > 0 {
				b.leave(name)
			}
		default:
			b.attribute(name, v, nil)
		}
	}
}

// keycloakCredential takes a password or an authenticator app.
func (b *builder) keycloakCredential(c map[string]any) {
	data, secret := embedded(c["credentialData"]), embedded(c["secretData"])
	switch kind := plain(c["type"]); kind {
	case "password":
		if b.PasswordHash != "" { // the first one counts, as in Keycloak
			return
		}
		b.hash(keycloakHash(c, data, secret))
		b.PasswordChangedAt = b.time("credentials.createdDate", c["createdDate"])
	case "otp", "totp", "hotp":
		b.keycloakTOTP(data, secret)
	case "recovery-authn-codes":
		b.leave("credentials." + kind)
	default:
		b.noFactor("%.40s cannot be taken over", kind)
	}
}

// embedded reads JSON that Keycloak keeps as text within JSON.
func embedded(v any) map[string]any {
	if object, ok := v.(map[string]any); ok {
		return object
	}
	var object map[string]any
	dec := json.NewDecoder(strings.NewReader(plain(v)))
	dec.UseNumber()
	if dec.Decode(&object) != nil {
		return nil
	}
	return object
}

func keycloakHash(c, data, secret map[string]any) (string, error) {
	algorithm, rounds, value, salt := plain(data["algorithm"]), plain(data["hashIterations"]), plain(secret["value"]), plain(secret["salt"])
	if value == "" && c["hashedSaltedValue"] != nil { // before Keycloak 8
		algorithm, rounds, value, salt = plain(c["algorithm"]), plain(c["hashIterations"]), plain(c["hashedSaltedValue"]), plain(c["salt"])
	}
	if algorithm == "bcrypt" || strings.HasPrefix(value, "$2") { // by a provider of others
		return identity.ReadHash(value)
	}
	key, err1 := identity.DecodeBase64(value)
	saltBytes, err2 := identity.DecodeBase64(salt)
	n, err3 := strconv.Atoi(rounds)
	if err := errors.Join(err1, err2); err != nil {
		return "", &identity.HashError{Reason: "hash or salt is not base64"}
	}
	if err3 != nil {
		return "", &identity.HashError{Reason: "hashIterations is not a number"}
	}
	switch algorithm {
	case "pbkdf2", "pbkdf2-sha1":
		return identity.PBKDF2Hash("sha1", n, saltBytes, key)
	case "pbkdf2-sha256", "pbkdf2-sha512":
		return identity.PBKDF2Hash(strings.TrimPrefix(algorithm, "pbkdf2-"), n, saltBytes, key)
	case "argon2":
		more, _ := data["additionalParameters"].(map[string]any)
		if more == nil {
			more, _ = secret["additionalParameters"].(map[string]any)
		}
		if version := first(more, "version"); version != "1.3" {
			return "", &identity.HashError{Reason: "argon2 of another version than 1.3"}
		}
		memory, err1 := strconv.Atoi(first(more, "memory"))
		lanes, err2 := strconv.Atoi(first(more, "parallelism"))
		if err1 != nil || err2 != nil {
			return "", &identity.HashError{Reason: "argon2 without memory or parallelism"}
		}
		return identity.ArgonHash(first(more, "type"), memory, n, lanes, saltBytes, key)
	}
	return "", &identity.HashError{Reason: "hashing by " + strconv.Quote(algorithm[:min(len(algorithm), 20)]) + " is not known"}
}

// first gives the first value of a list of Keycloak's.
func first(lists map[string]any, name string) string {
	if list, ok := lists[name].([]any); ok && len(list) > 0 {
		return plain(list[0])
	}
	return plain(lists[name])
}

func (b *builder) keycloakTOTP(data, secret map[string]any) {
	for name, want := range map[string]string{"subType": "totp", "digits": "6", "period": "30", "algorithm": "HmacSHA1"} {
		if got := plain(data[name]); got != want {
			b.noFactor("%s is %.20q, and not %s as our authenticator apps have it", name, got, want)
			return
		}
	}
	if b.TOTP != nil {
		b.noFactor("there is a second authenticator app, and one is kept")
		return
	}
	if value := plain(secret["value"]); plain(data["secretEncoding"]) == "BASE32" {
		b.totp(value)
	} else {
		b.totpBytes([]byte(value))
	}
}
