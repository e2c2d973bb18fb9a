package oauth

import (
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/token/jwt"
)

// session is what the tokens of one authorization say about the person and the login. It travels in the authorization
// code and in the grant's row; fosite carries it about as its Session.
type session struct {
	Subject     string    `json:"sub,omitempty"`
	GrantID     string    `json:"gid,omitempty"`
	SessionID   string    `json:"sid,omitempty"`
	AuthTime    time.Time `json:"auth_time,omitzero"`
	Undated     bool      `json:"undated,omitempty"`     // AuthTime is a guess, and told to nobody
	Provider    string    `json:"via,omitempty"`         // by which the person came; what was issued ends with it
	RequestedAt time.Time `json:"requested_at,omitzero"` // prompt and max_age are judged against it
	ACR         string    `json:"acr,omitempty"`         // as tokens name it
	Reached     string    `json:"reached,omitempty"`     // the class of the session; policies ask for it
	AMR         []string  `json:"amr,omitempty"`
	Nonce       string    `json:"nonce,omitempty"`
	Claims      *claims   `json:"claims,omitempty"` // the claims parameter (OpenID Connect Core §5.5)
	Details     details   `json:"authorization_details,omitempty"`
	Resources   []string  `json:"resources,omitempty"` // the audiences that were asked for (RFC 8707); none: those of the client

	Until time.Time `json:"until,omitzero"` // when the grant ends, if sooner than the server's
	Uses  int64     `json:"uses,omitempty"` // how often the grant may be used; 0: no bound

	Kept []string `json:"kept,omitempty"` // what the person left to an app that acts by assertions, see ShrinkAgent

	Act     *actor   `json:"act,omitempty"` // who acts for the person (RFC 8693 §4.1)
	sources []source // tokens for which this one is given

	expires map[fosite.TokenType]time.Time
	id      *jwt.IDTokenClaims
	headers *jwt.Headers
	sha512  bool // at_hash of an EdDSA ID token
}

var _ openid.Session = (*session)(nil)

// SetExpiresAt implements fosite.Session.
func (s *session) SetExpiresAt(kind fosite.TokenType, at time.Time) {
	if s.expires == nil {
		s.expires = make(map[fosite.TokenType]time.Time, 3)
	}
	if kind == fosite.AccessToken && !s.Until.IsZero() && s.Until.Before(at) { // no token outlives its grant
		at = s.Until
	}
	s.expires[kind] = at
}

// GetExpiresAt implements fosite.Session.
func (s *session) GetExpiresAt(kind fosite.TokenType) time.Time { return s.expires[kind] }

// GetUsername implements fosite.Session.
func (s *session) GetUsername() string { return "" }

// GetSubject implements fosite.Session.
func (s *session) GetSubject() string { return s.Subject }

// Clone implements fosite.Session; what belongs to one answer only is left behind.
func (s *session) Clone() fosite.Session {
	c := *s
	c.expires, c.id, c.headers = nil, nil, nil
	return &c
}

// IDTokenClaims implements openid.Session. fosite reads them to judge prompt and max_age and leaves at_hash there.
func (s *session) IDTokenClaims() *jwt.IDTokenClaims {
	if s.id == nil {
		s.id = &jwt.IDTokenClaims{Subject: s.Subject, AuthTime: s.AuthTime, RequestedAt: s.RequestedAt}
	}
	return s.id
}

// IDTokenHeaders implements openid.Session. fosite picks the hash for at_hash from the digits behind the first two
// letters of "alg"; "EdDSA" has none, and clients expect SHA-512 with Ed25519.
func (s *session) IDTokenHeaders() *jwt.Headers {
	if s.headers == nil {
		s.headers = &jwt.Headers{}
		if s.sha512 {
			s.headers.Add("alg", "ED512")
		}
	}
	return s.headers
}
