package identity

import "slices"

// Authentication methods (amr, RFC 8176). A recovery code is a one-time password that was printed beforehand; the RFC has no
// value of its own for it. A sign-in with two steps carries AMRPassword, AMROTP and AMRMFA; one with a passkey, which
// proves possession and the person in one, AMRHardware or AMRSoftware, AMRPresence and AMRMFA.
const (
	AMRPassword = "pwd"
	AMROTP      = "otp"
	AMRMFA      = "mfa"
	AMRRecovery = AMROTP
	AMRMailCode = AMROTP // one factor, like AMRPassword: what makes two of them is AMRMFA alone
	AMRHardware = "hwk"  // a passkey that never leaves its device
	AMRSoftware = "swk"  // a passkey that is synchronised between devices
	AMRPresence = "user" // the person touched the authenticator
)

// Authentication context classes (acr), of which each includes the one before it.
const (
	ACRPassword          = "urn:gatehouse:pwd" // one factor
	ACRMFA               = "urn:gatehouse:mfa" // two factors
	ACRPhishingResistant = "urn:gatehouse:phr" // a passkey, which no other site can ask for
)

var acrOrder = []string{ACRPassword, ACRMFA, ACRPhishingResistant}

// ACRs lists the authentication context classes, the weakest first.
func ACRs() []string { return slices.Clone(acrOrder) }

// Reaches tells whether somebody who has reached the class have may go where want is asked for. What is no class is
// never reached; the empty want asks for nothing.
func Reaches(have, want string) bool {
	if want == "" {
		return true
	}
	at := slices.Index(acrOrder, want)
	return at >= 0 && slices.Index(acrOrder, have) >= at
}

// acrOf gives the class that methods amount to.
func acrOf(amr []string) string {
	switch {
	case slices.Contains(amr, AMRHardware), slices.Contains(amr, AMRSoftware):
		return ACRPhishingResistant
	case slices.Contains(amr, AMRMFA):
		return ACRMFA
	}
	return ACRPassword
}

// wholeProof tells whether methods say by themselves who somebody is; a second factor alone only adds to what was proven before.
func wholeProof(amr []string) bool {
	return slices.Contains(amr, AMRPassword) || acrOf(amr) == ACRPhishingResistant
}
