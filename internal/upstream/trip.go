package upstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// tripLife is how long a person has at a provider.
const tripLife = 15 * time.Minute

// What a trip is for.
const (
	ForSignIn  = "sign-in"
	ForLink    = "link"    // the provider's account is to be linked to the account of the session
	ForConfirm = "confirm" // the person of the session is to prove anew who they are
)

var (
	// ErrTrip says that a return fits no trip of this browser: too late, used before, made up, or begun in another browser.
	ErrTrip = errors.New("no such trip")
	// ErrDenied says that the person or the provider refused.
	ErrDenied = errors.New("refused by the provider")
	// ErrAnswer says that what the provider sent cannot be trusted or understood.
	ErrAnswer = errors.New("answer of the provider")
	// ErrStale says that the provider let the person through without asking anew, though it was to.
	ErrStale = errors.New("the provider did not ask anew")
	// ErrDisabled says that a provider is disabled, or gone.
	ErrDisabled = errors.New("provider is disabled")
)

// Trip is what this server remembers while a person is at a provider.
type Trip struct {
	Provider    string    `json:"provider"`
	Purpose     string    `json:"purpose"`
	Interaction string    `json:"interaction,omitempty"` // the app's request that waits
	UserID      string    `json:"user_id,omitempty"`     // whose session it began in, unless it is to sign in
	SessionID   string    `json:"session_id,omitempty"`
	Next        string    `json:"next,omitempty"`  // for the caller: where to go on
	Fresh       bool      `json:"fresh,omitempty"` // the provider is to ask anew, and to say so
	Dated       bool      `json:"dated,omitempty"` // the provider is to say when it has asked
	StartedAt   time.Time `json:"started_at"`

	Verifier string `json:"verifier"` // PKCE
	Nonce    string `json:"nonce"`
	Browser  []byte `json:"browser"` // hash of the token in the browser's cookie
}

// Wish is what the provider is asked for besides who the person is.
type Wish struct {
	LoginHint     string
	SelectAccount bool
	MaxAge        time.Duration // of the sign-in there, for a Dated trip
	Locales       string        // ui_locales
}

// Identity is who somebody is at a provider.
type Identity struct {
	Issuer   string
	Subject  string
	Label    string // address or name there, for people to tell their accounts apart
	Email    string // as the provider gives it; "" for none
	Verified bool   // the provider answers for the address
	Fields   map[string]string
	AMR      []string
	AuthTime time.Time // zero: the provider does not say
}

// Config is what Trips work with. All but Now are required.
type Config struct {
	Providers *Providers
	Cache     cache.Cache
	Client    *outbound.Client
	Callback  func(provider string) string // redirect URI at a provider
	Now       func() time.Time
}

// Trips sends people to providers and reads what they bring back.
type Trips struct {
	Config

	mu     sync.Mutex
	metas  map[string]*metadata // by provider
	asking map[string]*question // by provider
}

// question is a request for metadata that is under way. What it has found stands when done is closed.
type question struct {
	of   time.Time // UpdatedAt of the provider
	done chan struct{}
	meta *metadata
	err  error
}

// New gives Trips.
func New(c Config) (*Trips, error) {
	if c.Providers == nil || c.Cache == nil || c.Client == nil || c.Callback == nil {
		return nil, errors.New("upstream needs providers, a cache, a client and redirect URIs")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Trips{Config: c, metas: map[string]*metadata{}, asking: map[string]*question{}}, nil
}

// Departure is the beginning of a trip.
type Departure struct {
	URL     string    // where to send the browser
	Cookie  string    // name for the cookie that binds the trip to the browser
	Token   string    // its value
	Expires time.Time // and its end
}

// Begin prepares a trip to t.Provider.
func (s *Trips) Begin(ctx context.Context, t Trip, w Wish) (d Departure, err error) {
	p, err := s.Providers.registered(t.Provider)
	if errors.Is(err, db.ErrNotFound) || err == nil && p.Disabled {
		return d, ErrDisabled
	}
	if err != nil {
		return d, err
	}
	m, err := s.metadata(ctx, p.Provider)
	if err != nil {
		return d, err
	}
	state, token := newToken(), newToken()
	t.Verifier, t.Nonce, t.Browser, t.StartedAt = oauth2.GenerateVerifier(), newToken(), hash(token), s.Now()
	value, err := json.Marshal(t)
	if err != nil {
		return d, err
	}
	if err := s.Cache.Put(ctx, tripKey(state), value, tripLife); err != nil {
		return d, err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(t.Verifier)}
	set := func(name, value string) {
		if value != "" {
			options = append(options, oauth2.SetAuthURLParam(name, value))
		}
	}
	if p.Kind == GitHub {
		set("login", w.LoginHint)
		if w.SelectAccount || t.Fresh {
			set("prompt", "select_account")
		}
	} else {
		set("nonce", t.Nonce)
		set("login_hint", w.LoginHint)
		set("ui_locales", w.Locales)
		switch {
		case t.Fresh:
			set("prompt", "login")
			set("max_age", "0") // and so an auth_time in the ID token (OpenID Connect Core §2)
		case w.SelectAccount:
			set("prompt", "select_account")
		}
		if t.Dated && !t.Fresh {
			set("max_age", strconv.FormatInt(int64(w.MaxAge/time.Second), 10))
		}
	}
	config := s.oauth(p, m)
	return Departure{URL: config.AuthCodeURL(state, options...), Cookie: CookieName(state), Token: token, Expires: s.Now().Add(tripLife)}, nil
}

// Return is what a browser brings back from a provider: the query of the redirect.
type Return struct {
	Code, State, Issuer, Error string
}

// maxReturned bounds each parameter of a Return, in bytes.
const maxReturned = 8 << 10

// Finish reads a return to the redirect URI of a provider in a browser that has the given cookie. Whatever comes of it, the state is
// used up. With an error the Trip is the one that was under way, or has no Provider if none was.
func (s *Trips) Finish(ctx context.Context, provider string, r Return, cookie string) (t Trip, who Identity, err error) {
	if cookie == "" || !validToken(r.State) || len(r.Code) > maxReturned || len(r.Issuer) > maxReturned || len(r.Error) > maxReturned {
		return Trip{}, who, ErrTrip
	}
	value, ok, err := s.Cache.Take(ctx, tripKey(r.State)) // a state works once (replay)
	if err != nil {
		return Trip{}, who, err
	}
	if !ok {
		return Trip{}, who, ErrTrip
	}
	if err := json.Unmarshal(value, &t); err != nil {
		return Trip{}, who, fmt.Errorf("read trip: %w", err)
	}
	// The state of another browser is somebody else's sign-in (login CSRF); that of another provider is a mix-up (RFC 9700 §4.4).
	if subtle.ConstantTimeCompare(hash(cookie), t.Browser) != 1 || t.Provider != provider {
		return Trip{}, who, ErrTrip
	}
	p, err := s.Providers.registered(t.Provider)
	if errors.Is(err, db.ErrNotFound) || err == nil && p.Disabled {
		return t, who, ErrDisabled
	}
	if err != nil {
		return t, who, err
	}
	m, err := s.metadata(ctx, p.Provider)
	if err != nil {
		return t, who, err
	}
	switch {
	case r.Issuer != "" && !slices.Contains(m.issuers, r.Issuer), r.Issuer == "" && m.SendsIssuer:
		return t, who, fmt.Errorf("%w: iss %q is not that of the provider (RFC 9207)", ErrAnswer, r.Issuer)
	case r.Error != "":
		return t, who, fmt.Errorf("%w: %.100q", ErrDenied, r.Error)
	case r.Code == "":
		return t, who, fmt.Errorf("%w: neither code nor error", ErrAnswer)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, s.Client.HTTP())
	config := s.oauth(p, m)
	token, err := config.Exchange(ctx, r.Code, oauth2.VerifierOption(t.Verifier))
	if err != nil {
		return t, who, fmt.Errorf("%w: exchange of the code: %w", ErrAnswer, quiet(err))
	}
	if p.Kind == GitHub {
		who, err = s.github(ctx, p.Provider, token)
	} else {
		who, err = s.openID(ctx, p.Provider, m, t, token)
	}
	if err != nil {
		return t, Identity{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if t.Dated && !p.TrustFresh && who.AuthTime.IsZero() { // it must say, having been asked for max_age (OpenID Connect Core §3.1.2.1)
		return t, Identity{}, ErrStale
	}
	if t.Fresh && !p.TrustFresh && (who.AuthTime.IsZero() || who.AuthTime.Before(t.StartedAt.Add(-leeway))) {
		return t, Identity{}, ErrStale
	}
	return t, who, nil
}

// quiet drops what a provider wrote into its error answer, which may repeat what was sent to it.
func quiet(err error) error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		status := ""
		if answer.Response != nil {
			status = answer.Response.Status
		}
		return fmt.Errorf("status %s, error %.60q", status, answer.ErrorCode)
	}
	return err
}

func (s *Trips) oauth(p registered, m *metadata) oauth2.Config {
	style := oauth2.AuthStyleInHeader
	if p.AuthMethod != AuthBasic {
		style = oauth2.AuthStyleInParams
	}
	return oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.secret, RedirectURL: s.Callback(p.ID), Scopes: p.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: m.AuthURL, TokenURL: m.TokenURL, AuthStyle: style},
	}
}

// metadataLife is how long a provider's metadata is taken for true.
const metadataLife = time.Hour

// metadata is what a provider says about itself (OpenID Connect Discovery §3).
type metadata struct {
	Issuer      string   `json:"issuer"`
	AuthURL     string   `json:"authorization_endpoint"`
	TokenURL    string   `json:"token_endpoint"`
	UserInfoURL string   `json:"userinfo_endpoint"`
	JWKSURL     string   `json:"jwks_uri"`
	Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	SendsIssuer bool     `json:"authorization_response_iss_parameter_supported"`

	issuers []string // that may stand in an answer
	keys    keySet
	of      time.Time // UpdatedAt of the provider
	until   time.Time
}

// metadata answers from memory, else asks the provider. One request at a time asks; the others of this process wait for it.
func (s *Trips) metadata(ctx context.Context, p Provider) (*metadata, error) {
	s.mu.Lock()
	m, q := s.metas[p.ID], s.asking[p.ID]
	if m != nil && m.of.Equal(p.UpdatedAt) && s.Now().Before(m.until) {
		s.mu.Unlock()
		return m, nil
	}
	if q == nil || !q.of.Equal(p.UpdatedAt) {
		q = &question{of: p.UpdatedAt, done: make(chan struct{})}
		s.asking[p.ID] = q
		go s.ask(context.WithoutCancel(ctx), p, q) // whose request it was may go away; others wait for the answer
	}
	s.mu.Unlock()
	select {
	case <-q.done:
		return q.meta, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask answers a question. The client bounds its time.
func (s *Trips) ask(ctx context.Context, p Provider, q *question) {
	q.meta, q.err = s.discover(ctx, p)
	s.mu.Lock()
	if q.err == nil {
		q.meta.of, q.meta.until = p.UpdatedAt, s.Now().Add(metadataLife)
		s.metas[p.ID] = q.meta
	} else {
		q.meta, q.err = nil, fmt.Errorf("%w: metadata: %w", ErrAnswer, q.err)
	}
	if s.asking[p.ID] == q {
		delete(s.asking, p.ID)
	}
	s.mu.Unlock()
	close(q.done)
}

func (s *Trips) discover(ctx context.Context, p Provider) (*metadata, error) {
	if p.Kind == GitHub {
		return &metadata{
			AuthURL: p.Issuer + "/login/oauth/authorize", TokenURL: p.Issuer + "/login/oauth/access_token",
			issuers: []string{p.Issuer, p.Issuer + "/login/oauth"},
		}, nil
	}
	body, _, err := s.Client.Get(ctx, strings.TrimSuffix(p.Issuer, "/")+"/.well-known/openid-configuration", "application/json", 256<<10)
	if err != nil {
		return nil, err
	}
	m := &metadata{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, err
	}
	m.issuers = []string{m.Issuer}
	template, many := p.manyTenants()
	switch {
	case many && (m.Issuer == template || m.Issuer == strings.Replace(template, "{tenantid}", microsoftConsumers, 1)):
	case m.Issuer != p.Issuer: // or one provider could speak for another (OpenID Connect Discovery §4.3)
		return nil, fmt.Errorf("issuer %q, want %q", m.Issuer, p.Issuer)
	}
	urls := []string{m.AuthURL, m.TokenURL, m.JWKSURL}
	if m.UserInfoURL != "" {
		urls = append(urls, m.UserInfoURL)
	}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err == nil {
			err = s.Client.CheckURL(u)
		}
		if err != nil {
			return nil, err
		}
	}
	m.Algorithms = allowedAlgorithms(m.Algorithms)
	m.keys = newKeySet(s.Client, m.JWKSURL)
	return m, nil
}

// Check asks a provider for its metadata, so that a mistake shows before the first person is sent there.
func (s *Trips) Check(ctx context.Context, p Provider) error {
	_, err := s.discover(ctx, p)
	return err
}

func (s *Trips) bearer(ctx context.Context, rawURL string, token *oauth2.Token, accept string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.AccessToken)
	req.Header.Set("Accept", accept)
	body, _, err := s.Client.Do(req, 256<<10)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// tokenSize is the length of states, nonces and cookies in bytes: 256 bits.
const tokenSize = 32

func newToken() string {
	raw := make([]byte, tokenSize)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func validToken(s string) bool { return len(s) == (tokenSize*8+5)/6 }

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func tripKey(state string) string { return "trip:" + hex.EncodeToString(hash(state)) }

// CookieName names the cookie of a trip. Each has its own, so that tabs do not disturb each other.
func CookieName(state string) string { return "trip-" + hex.EncodeToString(hash(state)[:6]) }
