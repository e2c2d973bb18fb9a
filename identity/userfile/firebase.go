package userfile

import (
	"errors"

	"github.com/gatehouse-id/gatehouse/identity"
)

// fromFirebase reads a user of `firebase auth:export users.json --format=JSON`.
func fromFirebase(b *builder, object map[string]any) {
	b.ExternalID = plain(take(object, "localId"))
	b.Email = plain(take(object, "email"))
	b.EmailVerified = b.bool("emailVerified", take(object, "emailVerified"))
	b.Disabled = b.bool("disabled", take(object, "disabled"))
	b.CreatedAt = b.time("createdAt", take(object, "createdAt"))
	b.PasswordChangedAt = b.time("passwordUpdatedAt", take(object, "passwordUpdatedAt"))
	b.set("name", take(object, "displayName"))
	b.set("picture", take(object, "photoUrl"))
	b.set("phone_number", take(object, "phoneNumber"))
	text, saltText := plain(take(object, "passwordHash")), plain(take(object, "salt"))
	if text != "" {
		if len(b.o.Firebase.SignerKey) == 0 {
			b.hash("", &identity.HashError{Reason: "the project's hash parameters were not given"})
		} else {
			key, err1 := identity.DecodeBase64(text)
			salt, err2 := identity.DecodeBase64(saltText)
			if err := errors.Join(err1, err2); err != nil {
				b.hash("", &identity.HashError{Reason: "hash or salt is not base64"})
			} else {
				b.hash(identity.FirebaseHash(b.o.Firebase, salt, key))
			}
		}
	}
	if factors, _ := take(object, "mfaInfo").([]any); len(factors) > 0 {
		b.noFactor("only authenticator apps can be taken over, and the export does not hold their secrets")
	}
	providers, _ := take(object, "providerUserInfo").([]any)
	for _, p := range providers {
		if p, _ := p.(map[string]any); plain(p["providerId"]) != "password" && plain(p["providerId"]) != "phone" {
			b.leave("providerUserInfo." + plain(p["providerId"]))
		}
	}
	for _, name := range []string{"lastSignedInAt", "lastLoginAt", "lastRefreshAt", "validSince", "version", "rawPassword"} {
		delete(object, name)
	}
	b.rest("", object, nil) // customAttributes…
}
