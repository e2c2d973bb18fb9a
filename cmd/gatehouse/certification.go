package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
)

// check refuses the test profile where people could be.
func (c certification) check(s *settings, meaning *checked, alone bool) error {
	if c.Mode == "off" {
		if c.CA != "" {
			return badSetting("certification-ca", "needs --certification=on")
		}
		return nil
	}
	if c.Mode != "force" && !alone {
		return badSetting("certification", "takes protection away, which only a server with issuer and listen address on loopback may do; "+
			"say force if nobody but testers can reach this one")
	}
	meaning.outbound = append(meaning.outbound, loopbackNetworks...)
	if c.CA == "" {
		return nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return badSetting("certification-ca", "%v", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return badSetting("certification-ca", "%s holds no certificate (PEM)", c.CA)
	}
	meaning.trust = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return nil
}

// limits takes the limits off a cache, if that was chosen: a certification run signs in hundreds of times from one address.
func (c certification) limits(of cache.Cache) cache.Cache {
	if c.Mode == "off" {
		return of
	}
	return unlimited{of}
}

// unlimited is a cache that allows everything; all else it does as the one in it.
type unlimited struct{ cache.Cache }

// Allow implements cache.Cache.
func (unlimited) Allow(context.Context, string, int, time.Duration) (time.Duration, error) {
	return 0, nil
}
