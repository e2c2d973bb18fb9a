// Package oauth speaks the protocol: OAuth 2.1 and OpenID Connect over HTTP, on github.com/ory/fosite, which no other
// package imports. It draws no page: where a person must act it redirects to /login, /consent and their like, and is
// entered again at /authorize/resume.
package oauth

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Config is what a Server is made of. Site to Log are required.
type Config struct {
	Site     web.Site
	DB       *db.DB
	Cache    cache.Cache
	Seal     *seal.Sealer
	Keys     *keys.Ring
	People   *identity.Directory
	Consents *consent.Store
	Clients  *Clients
	Grants   *Grants
	Audit    *audit.Log
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now

	CodeTTL        time.Duration // life of an authorization code; 0: 60 s
	AccessTokenTTL time.Duration // 0: 10 min
	IDTokenTTL     time.Duration // 0: 1 h
	GrantTTL       time.Duration // absolute life of a refresh-token family; 0: 180 days
	ReplayWindow   time.Duration // a rotated refresh token repeated within it gets the same successor; 0: 30 s
	InteractionTTL time.Duration // time a person has to sign in and consent; 0: 1 h

	RequireVerifiedEmail bool // a person must prove the address before any app learns of them
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
	ID             string
	Client         Client
	Scopes         []string // asked for
	NewScopes      []string // of these, the ones the person has not allowed before
	LoginHint      string
	UILocales      []string
	Prompt         []string
	ACRValues      []string
	RedirectOrigin string // for the form-action of the pages (Chromium applies it to redirects)
	Reason         string // why a signed-in person must sign in again: "" | "reauth" | "mfa"
	CreatedAt      time.Time
}

// App is an app that a person let in.
type App struct {
	Client   Client
	Scopes   []string
	Since    time.Time
	LastUsed time.Time // zero: no use is known
}

// Server answers every OAuth and OpenID Connect request.
type Server struct {
	Config
	errorPage func(w http.ResponseWriter, r *http.Request, e ErrorPage)
}

// New checks the configuration and builds a Server.
func New(c Config) (*Server, error) { return &Server{Config: c}, nil }

// SetErrorPage tells the server how a page for a dead end is drawn.
func (s *Server) SetErrorPage(f func(w http.ResponseWriter, r *http.Request, e ErrorPage)) {
	s.errorPage = f
}

func (s *Server) Routes() []web.Route { return nil }
func (s *Server) Interaction(ctx context.Context, id string) (Interaction, error) {
	return Interaction{}, db.ErrNotFound
}
func (s *Server) ResumePath(id string) string { return s.Site.Path("/authorize/resume?i=" + id) }
func (s *Server) Approve(ctx context.Context, id string, sess identity.Session) error {
	return db.ErrNotFound
}
func (s *Server) Deny(w http.ResponseWriter, r *http.Request, id string) error {
	return db.ErrNotFound
}
func (s *Server) SelectAccount(ctx context.Context, id string, sess identity.Session) error {
	return db.ErrNotFound
}
func (s *Server) Apps(ctx context.Context, userID string) ([]App, error)       { return nil, nil }
func (s *Server) Withdraw(ctx context.Context, userID, clientID string) error { return nil }
