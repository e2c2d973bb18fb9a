package main

import (
	"strings"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// acrPrefix stands before the levels of a sign-in policy in an authentication context class.
const acrPrefix = "urn:gatehouse:"

// policyACR gives the class of a level (pwd, mfa, phr).
func policyACR(level string) string { return acrPrefix + level }

// setPolicy makes a level the least that an app lets people in with.
func setPolicy(c *oauth.Client, level *string) {
	if level != nil {
		c.DefaultACRValues = []string{policyACR(*level)}
	}
}

// policyOf is the level of an app, for people to read.
func policyOf(c oauth.Client) string {
	return strings.ReplaceAll(strings.Join(c.DefaultACRValues, " "), acrPrefix, "")
}
