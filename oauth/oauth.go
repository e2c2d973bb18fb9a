// Package oauth speaks the protocol: OAuth 2.1 and OpenID Connect over HTTP, on github.com/ory/fosite, which no other
// package imports. It draws no page: where a person must act it redirects to /login, /consent and their like, and is
// entered again at /authorize/resume.
package oauth

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Config is what a Server is made of. Site to Log are required.
type Config struct {
	Site        web.Site
	DB          *db.DB
	Cache       cache.Cache
	Seal        *seal.Sealer
	Keys        *keys.Ring
	People      *identity.Directory
	Consents    *consent.Store
	Clients     *Clients
	Grants      *Grants
	Revocations *Revocations
	RefreshKey  []byte  // the key that Grants was given
	Outbox      *Outbox // nil: apps are not told when sessions end
	Audit       *audit.Log
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now

	Outbound     *outbound.Client // fetches what clients publish (jwks_uri); nil: nothing is fetched
	Certificates Certificates     // of clients

	SelfRegistered SelfRegistered // what clients may do that no operator has registered

	RequireDPoPNonce    bool // DPoP proofs must hold a nonce of this server
	LegacyResponseTypes bool // apps that are registered for it may have tokens with the redirect (OpenID Connect Core §3.2, §3.3)

	RequirePAR bool          // all clients must push their authorization requests
	PushedTTL  time.Duration // life of a pushed request; 0: 90 s

	CodeTTL        time.Duration // life of an authorization code; 0: 60 s
	AccessTokenTTL time.Duration // 0: 10 min
	IDTokenTTL     time.Duration // 0: 1 h
	GrantTTL       time.Duration // absolute life of a refresh-token family; 0: 180 days
	InteractionTTL time.Duration // time a person has to sign in and consent; 0: 1 h

	SignInPolicy         string // the least authentication context class that lets a person into any app; empty: any
	RequireVerifiedEmail bool   // a person must prove the address before any app learns of them
}

// ErrorPage is what a person sees when a request cannot be answered by a redirect to the app.
type ErrorPage struct {
	Status     int
	Code       string // RFC 6749 error code
	Key        string // locale key of the explanation
	ClientName string // where to start again; empty if unknown
	ClientURI  string
}

// Interaction is a request of an app that waits for a person: what was asked for and what is still missing. It holds no
// proof of who the person is, so several tabs and even several browsers may hold it.
type Interaction struct {
	ID        string
	Client    Client
	Scopes    []string // asked for
	NewScopes []string // of these, the ones the person has not allowed before
	LoginHint string
	UILocales []string
	Prompt    []string
	MaxAge    *time.Duration // how old the sign-in may be; nil: the app does not say
	ACRValues []string
	Stranger  *Stranger  // what people must know of an app that no operator has registered; nil: one did
	AppScheme string     // "com.example.app:" if the app is a program with a private-use scheme; empty: a website
	Resources []Resource // the APIs that the app asked to reach by name (RFC 8707)
	Details   []Detail   // what it asks for in detail (RFC 9396)
	Device    *Device    // the device that asked (RFC 8628), or the app without a browser (CIBA); nil: an app with a redirect
	Agent     bool       // the app acts for people without them: they may lay a budget on it
	Reason    string     // why a signed-in person must sign in again: "" | "reauth" | "account"; "mfa" or "phr": must prove more
	CreatedAt time.Time
}

// Stranger is an app that no operator has registered. Its name and pictures are its own invention.
type Stranger struct {
	Host     string // it has proven to come from there; "": it has proven nothing
	Approved bool   // an operator has looked at the host
	Goes     string // host to which the person is sent, or the scheme of a program
	Here     bool   // the person is sent to a program on their own device
}

// App is an app that a person let in.
type App struct {
	Client    Client
	Scopes    []string
	Resources []string // identifiers of the APIs it was let into by name
	Since     time.Time
	LastUsed  time.Time // zero: no use is known
}

// Server answers every OAuth and OpenID Connect request.
type Server struct {
	Config
	provider  fosite.OAuth2Provider
	metadata  document
	keySets   *keySets
	documents *documents
	verified  verifiedTokens
	known     knownAPIs
	requests  *Requests
	asked     func(ctx context.Context, user identity.User, client Client)
	errorPage func(w http.ResponseWriter, r *http.Request, e ErrorPage)
}

// New fills the configuration's defaults and builds a Server. Until SetErrorPage is called, dead ends are plain text.
func New(c Config) (*Server, error) {
	for name, missing := range map[string]bool{
		"Site": c.Site.Issuer() == "", "DB": c.DB == nil, "Cache": c.Cache == nil, "Keys": c.Keys == nil, "People": c.People == nil,
		"Consents": c.Consents == nil, "Clients": c.Clients == nil, "Grants": c.Grants == nil, "Revocations": c.Revocations == nil,
		"Audit": c.Audit == nil, "Log": c.Log == nil, "RefreshKey": len(c.RefreshKey) == 0,
	} {
		if missing {
			return nil, fmt.Errorf("oauth: %s is missing", name)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	orElse(&c.CodeTTL, 60*time.Second)
	orElse(&c.AccessTokenTTL, 10*time.Minute)
	orElse(&c.IDTokenTTL, time.Hour)
	orElse(&c.GrantTTL, 180*24*time.Hour)
	orElse(&c.InteractionTTL, time.Hour)
	orElse(&c.PushedTTL, 90*time.Second)
	if c.SelfRegistered.Scopes == nil {
		c.SelfRegistered.Scopes = standardScopes
	}
	if c.CodeTTL > maxCodeTTL || c.AccessTokenTTL > MaxAccessTokenTTL {
		return nil, fmt.Errorf("oauth: a code lives at most %s, an access token at most %s", maxCodeTTL, MaxAccessTokenTTL)
	}
	s := &Server{Config: c, errorPage: func(w http.ResponseWriter, _ *http.Request, e ErrorPage) { http.Error(w, e.Code, e.Status) }}
	s.requests = OpenRequests(c.DB, c.Now)
	s.keySets = newKeySets(func(ctx context.Context, url string) ([]byte, error) { return fetchKeySet(ctx, s.Outbound, url) }, s.Now)
	s.documents = newDocuments(s.fetchDocument, s.Now)
	s.provider = s.newProvider()
	var err error
	s.metadata, err = s.buildMetadata()
	return s, err
}

func orElse(d *time.Duration, fallback time.Duration) {
	if *d == 0 {
		*d = fallback
	}
}

// SetErrorPage tells the server how a page for a dead end is drawn.
func (s *Server) SetErrorPage(f func(w http.ResponseWriter, r *http.Request, e ErrorPage)) {
	s.errorPage = f
}

// Error answers a request whose handler failed; web.Mount calls it. The handlers answer what they foresee themselves.
func (s *Server) Error(w http.ResponseWriter, r *http.Request, err error) { s.writeError(w, r, err) }

// Routes lists every endpoint.
func (s *Server) Routes() []web.Route {
	routes := []web.Route{
		{Pattern: "GET /authorize", Handler: s.authorize},
		{Pattern: "POST /authorize", Handler: s.authorize},
		{Pattern: "GET /authorize/resume", Handler: s.resume},
		{Pattern: "POST /token", Handler: cors(s.token)},
		{Pattern: "OPTIONS /token", Handler: preflight},
		{Pattern: "GET /userinfo", Handler: cors(s.userinfo)},
		{Pattern: "POST /userinfo", Handler: cors(s.userinfo)},
		{Pattern: "OPTIONS /userinfo", Handler: preflight},
		{Pattern: "POST /par", Handler: cors(s.push)},
		{Pattern: "OPTIONS /par", Handler: preflight},
		{Pattern: "POST /device_authorization", Handler: cors(s.deviceAuthorization)},
		{Pattern: "OPTIONS /device_authorization", Handler: preflight},
		{Pattern: "POST /bc-authorize", Handler: s.backchannelAuthorize},
		{Pattern: "GET " + resourceMetadataPath + "{id}", Handler: cors(s.resourceMetadata)},
		{Pattern: "OPTIONS " + resourceMetadataPath + "{id}", Handler: preflight},
		{Pattern: "POST /introspect", Handler: s.introspect},
		{Pattern: "POST /revoke", Handler: cors(s.revoke)},
		{Pattern: "OPTIONS /revoke", Handler: preflight},
		{Pattern: "GET /jwks", Handler: cors(s.jwks)},
		{Pattern: "OPTIONS /jwks", Handler: preflight},
		{Pattern: "GET /.well-known/openid-configuration", Handler: cors(s.wellKnown)},
		{Pattern: "OPTIONS /.well-known/openid-configuration", Handler: preflight},
		{Pattern: "GET /.well-known/oauth-authorization-server", Handler: cors(s.wellKnown)},
		{Pattern: "OPTIONS /.well-known/oauth-authorization-server", Handler: preflight},
		{Pattern: "POST /global-token-revocation", Handler: s.ownToken([]string{scopeGlobalRevocation}, func(c *registration) bool { return c.RevokesPeople }, s.revokeEverything)},
	}
	return slices.Concat(routes, s.registrationRoutes(), s.ssfRoutes())
}
