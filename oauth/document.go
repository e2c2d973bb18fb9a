package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// A client_id may be the URL of a document with the client's metadata (draft-ietf-oauth-client-id-metadata-document): whoever
// commands the URL is the client, and nobody registers anything.

// How long a document counts, and how often strangers can make the server fetch.
const (
	documentLife     = time.Hour // without a word from its server
	documentLifeMin  = time.Minute
	documentLifeMax  = 24 * time.Hour
	documentStale    = time.Hour        // … longer, while its server cannot be reached
	documentRetry    = 30 * time.Second // between fetches that fail
	documentTimeout  = 5 * time.Second
	documentsMost    = 1000
	maxDocument      = 32 << 10 // bytes
	maxDocumentURL   = 512
	documentsAtOnce  = 60 // fetches for one network per documentsWindow
	documentsWindow  = 10 * time.Minute
	documentMaxDepth = 8
)

// DocumentError says that a client's document cannot be used, and why. To apps it is an unknown client.
type DocumentError struct {
	Host string
	gone bool // its server answers, but there is no client any more
	read bool // err speaks of what the document says; else of networks, which strangers must not hear (server-side request forgery)
	err  error
}

// Error implements error.
func (e *DocumentError) Error() string {
	return fmt.Sprintf("client document at %s: %v", e.Host, e.err)
}

// Unwrap implements errors.Unwrap.
func (e *DocumentError) Unwrap() error { return e.err }

// told is what anybody may know of it.
func (e *DocumentError) told() string {
	if e.read {
		return "The metadata document of the client " + e.err.Error() + "."
	}
	return "The metadata document of the client could not be fetched."
}

// Is makes it a db.ErrNotFound for errors.Is.
func (*DocumentError) Is(target error) bool { return target == db.ErrNotFound }

// documentURL reports whether an id names a document: no id of another kind has a slash.
func documentURL(id string) bool {
	return strings.HasPrefix(id, "https://") || strings.HasPrefix(id, "http://")
}

// validDocumentURL wants the one spelling of a URL. It is compared byte by byte, so that two spellings would be two clients of
// one document, and a person could not tell them apart.
func validDocumentURL(id string) bool {
	u, err := url.Parse(id)
	return err == nil && len(id) <= maxDocumentURL && printable(id) && webURL(id) && u.String() == id && u.Opaque == "" &&
		u.Host == strings.ToLower(u.Host) && !strings.HasSuffix(u.Host, ":") && u.Port() != "443" && !strings.Contains(u.Hostname(), "%") &&
		strings.HasPrefix(u.Path, "/") && u.RawQuery == "" && !u.ForceQuery && !strings.ContainsAny(id, "#\\ ") &&
		!hasDotSegment(u.Path) && isASCII(id)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e })
}

// documentClient gives the client whose id is a URL: by its document, or, while that cannot be had, as it was when a person last
// allowed it something.
func (s *Server) documentClient(ctx context.Context, id string) (*registration, error) {
	if !s.SelfRegistered.Documents || s.Outbound == nil || !validDocumentURL(id) {
		return nil, db.ErrNotFound
	}
	host := Client{ID: id, Origin: OriginDocument}.Host()
	row, err := s.Clients.registration(ctx, id)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	if row != nil && row.Disabled {
		return s.restrict(row, Host{}), nil
	}
	h := s.Clients.trust(host)
	if h.Trust == TrustBlocked { // nothing is fetched from there
		return &registration{Client: Client{ID: id, Name: host, Origin: OriginDocument, AuthMethod: AuthNone, Disabled: true}}, nil
	}
	r, err := s.documents.get(ctx, id, s.spendFetch)
	switch {
	case err == nil:
	case row != nil && !isGone(err):
		r = row
	default:
		return nil, err
	}
	r = s.restrict(r, h)
	r.pairwise = s.Clients.pairwise
	if row != nil {
		r.CreatedAt = row.CreatedAt
	}
	r.Disabled = s.Clients.blocked(r.Client)
	return r, nil
}

func isGone(err error) bool {
	var e *DocumentError
	return errors.As(err, &e) && e.gone
}

// spendFetch bounds what strangers of one network can make the server ask others.
func (s *Server) spendFetch(ctx context.Context) error {
	network := web.Network(ctx)
	if network == "" {
		return nil
	}
	wait, err := s.Cache.Allow(ctx, "documents:"+network, documentsAtOnce, documentsWindow)
	if err == nil && wait > 0 {
		err = newError("temporarily_unavailable", "Too many requests from this network.")
	}
	return err
}

// documents keeps what clients publish. Requests that need the same document at the same time share one fetch.
type documents struct {
	fetch func(ctx context.Context, url string) ([]byte, http.Header, error)
	now   func() time.Time

	mu    sync.Mutex
	byURL map[string]*foundDocument
}

// foundDocument is a document as it was found, good or bad.
type foundDocument struct {
	client  *registration // nil: never any good
	until   time.Time     // it counts
	tried   time.Time     // when the last fetch began
	err     error         // of the last fetch
	loading chan struct{}
}

func newDocuments(fetch func(ctx context.Context, url string) ([]byte, http.Header, error), now func() time.Time) *documents {
	return &documents{fetch: fetch, now: now, byURL: map[string]*foundDocument{}}
}

// get returns the client at a URL. spend is asked before anything is fetched.
func (d *documents) get(ctx context.Context, url string, spend func(ctx context.Context) error) (*registration, error) {
	d.mu.Lock()
	p := d.byURL[url]
	if p == nil || p.loading == nil && p.due(d.now()) {
		d.mu.Unlock() // the limit may be kept in another process
		if err := spend(ctx); err != nil {
			return nil, err
		}
		d.mu.Lock()
		if p = d.byURL[url]; p == nil {
			p = &foundDocument{}
			d.makeRoom()
			d.byURL[url] = p
		}
		if p.loading == nil && p.due(d.now()) {
			p.loading, p.tried = make(chan struct{}), d.now()
			go d.load(url, p) //nolint:gosec // others wait for it, too: see load
		}
	}
	loading := p.loading
	d.mu.Unlock()
	if loading != nil {
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.client == nil || p.err != nil && d.now().After(p.until.Add(documentStale)) {
		return nil, p.err
	}
	return p.client, nil
}

func (p *foundDocument) due(now time.Time) bool {
	switch {
	case p.tried.IsZero():
		return true
	case p.err != nil:
		return now.Sub(p.tried) >= documentRetry
	}
	return !now.Before(p.until)
}

// load fetches for whoever waits; that the first of them goes away does not concern the others.
func (d *documents) load(id string, p *foundDocument) {
	ctx, cancel := context.WithTimeout(context.Background(), documentTimeout)
	defer cancel()
	body, header, err := d.fetch(ctx, id)
	var client *registration
	gone := errors.Is(err, outbound.ErrStatus) && (strings.HasSuffix(err.Error(), "404 Not Found") || strings.HasSuffix(err.Error(), "410 Gone"))
	read := err == nil
	if read {
		client, err = readDocument(id, body, header)
		gone = err != nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.err = nil
	if err != nil {
		p.err = &DocumentError{Client{ID: id, Origin: OriginDocument}.Host(), gone, read, err}
		if gone {
			p.client = nil
		}
	} else {
		p.client, p.until = client, d.now().Add(documentLifeOf(header))
	}
	close(p.loading)
	p.loading = nil
}

// makeRoom forgets the document that was asked for longest ago.
func (d *documents) makeRoom() {
	if len(d.byURL) < documentsMost {
		return
	}
	oldest := ""
	for url, p := range d.byURL {
		if p.loading == nil && (oldest == "" || p.tried.Before(d.byURL[oldest].tried)) {
			oldest = url
		}
	}
	delete(d.byURL, oldest)
}

// documentLifeOf honours what a server says about caching (RFC 9111 §5.2.2), within bounds.
func documentLifeOf(h http.Header) time.Duration {
	life := documentLife
	for _, directive := range strings.Split(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return documentLifeMin
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				life = time.Duration(seconds) * time.Second
			}
		}
	}
	return min(max(life, documentLifeMin), documentLifeMax)
}

// fetchDocument asks a client's server.
func (s *Server) fetchDocument(ctx context.Context, url string) ([]byte, http.Header, error) {
	return s.Outbound.Get(ctx, url, "application/json", maxDocument)
}

// readDocument makes a client of a document.
func readDocument(id string, body []byte, header http.Header) (*registration, error) {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "application/json" && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
		return nil, errors.New("is not of the type application/json")
	}
	m, err := readMetadata(body)
	if err != nil {
		return nil, err
	}
	if m.ID != id { // byte by byte: else one client could pose as another
		return nil, errors.New("its client_id is not the URL at which it was found")
	}
	if m.Secret != nil || m.SecretExpires != nil {
		return nil, errors.New("holds a client_secret, which everybody can read")
	}
	if m.AuthMethod == "" {
		m.AuthMethod = AuthNone
		if len(m.AuthMethods) > 0 {
			m.AuthMethod = offered(m.AuthMethods, []string{AuthPrivateKeyJWT, AuthNone})
		}
	}
	if m.AuthMethod != AuthNone && m.AuthMethod != AuthPrivateKeyJWT {
		return nil, fmt.Errorf("token_endpoint_auth_method: use %s or %s", AuthNone, AuthPrivateKeyJWT)
	}
	c, err := m.client(OriginDocument)
	if err != nil {
		return nil, err
	}
	c.ID = id
	if c.SectorURI != "" {
		return nil, errors.New("sector_identifier_uri: is for clients that are registered; a client that is a document has the host of its redirect URIs as its sector")
	}
	if c.Name == "" {
		c.Name = c.Host()
	}
	c = c.WithDefaults()
	c.LogoutAddresses, c.InitiateLoginURI = LogoutAddresses{}, "" // nobody has looked at them
	c.Profile = ProfileMCP                                        // whoever publishes a document is an agent, or lives by the rules of one
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &registration{Client: c}
	if len(c.JWKS) > 0 {
		if r.keys, err = parseKeySet(c.JWKS); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// clientMetadata is what clients say about themselves (RFC 7591 §2), in a document or when they register. What is not read is ignored,
// as §2 wants; so nothing that only operators may set can come in.
type clientMetadata struct {
	ID            string          `json:"client_id"`
	Secret        json.RawMessage `json:"client_secret"`
	SecretExpires json.RawMessage `json:"client_secret_expires_at"`
	RedirectURIs  []string        `json:"redirect_uris"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	AuthAlg       string          `json:"token_endpoint_auth_signing_alg"`
	GrantTypes    []string        `json:"grant_types"`
	ResponseTypes []string        `json:"response_types"`
	Name          string          `json:"client_name"`
	ClientURI     string          `json:"client_uri"`
	LogoURI       string          `json:"logo_uri"`
	PolicyURI     string          `json:"policy_uri"`
	TOSURI        string          `json:"tos_uri"`
	Scope         string          `json:"scope"`
	Contacts      []string        `json:"contacts"`
	JWKS          json.RawMessage `json:"jwks"`
	JWKSURI       string          `json:"jwks_uri"`
	IDTokenAlg    string          `json:"id_token_signed_response_alg"`
	InitiateLogin string          `json:"initiate_login_uri"`
	DPoPBound     bool            `json:"dpop_bound_access_tokens"`
	CertBound     bool            `json:"tls_client_certificate_bound_access_tokens"`
	RequirePAR    bool            `json:"require_pushed_authorization_requests"`
	TLSSubjectDN  string          `json:"tls_client_auth_subject_dn"`
	TLSDNS        string          `json:"tls_client_auth_san_dns"`
	TLSURI        string          `json:"tls_client_auth_san_uri"`
	TLSIP         string          `json:"tls_client_auth_san_ip"`
	TLSEmail      string          `json:"tls_client_auth_san_email"`
	LogoutAddresses
	Software
	Messages
	Encryption
	SignInWishes

	// OpenID Connect RP Metadata Choices: what the client could do, for the server to choose from.
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	IDTokenAlgs []string `json:"id_token_signing_alg_values_supported"`
}

// readMetadata reads JSON that a stranger has made.
func readMetadata(body []byte) (clientMetadata, error) {
	var m clientMetadata
	if depth(body) > documentMaxDepth {
		return m, errors.New("is nested too deeply")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, errors.New("is not a JSON object with the metadata of a client (RFC 7591 §2)")
	}
	if m.JWKS != nil && string(m.JWKS) == "null" {
		m.JWKS = nil
	}
	return m, nil
}

// depth is how deep brackets are nested, wherever they stand.
func depth(body []byte) int {
	now, most := 0, 0
	for _, b := range body {
		switch b {
		case '{', '[':
			now++
			most = max(most, now)
		case '}', ']':
			now--
		}
	}
	return most
}

// offered takes the first of the offered values that the other side can do, or "".
func offered(theirs, ours []string) string {
	for _, v := range ours {
		if slices.Contains(theirs, v) {
			return v
		}
	}
	return ""
}

// selfGrantTypes are those that a client may give itself. A device code is not among them: nobody sees where it leads (RFC 8628 §5.4).
// Nor are client credentials: no person stands behind them.
var selfGrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}

// client is what the metadata ask for, as far as it is a client's to choose.
func (m clientMetadata) client(origin string) (Client, error) {
	c := Client{
		Origin: origin, Name: strings.TrimSpace(m.Name), RedirectURIs: m.RedirectURIs, ResponseTypes: m.ResponseTypes,
		Credentials: Credentials{AuthAlg: m.AuthAlg, JWKS: m.JWKS, JWKSURI: m.JWKSURI, DPoPBound: m.DPoPBound, CertificateBound: m.CertBound, RequirePAR: m.RequirePAR},
		AuthMethod:  m.AuthMethod, IDTokenAlg: m.IDTokenAlg, RequirePKCE: true,
		ClientURI: m.ClientURI, LogoURI: m.LogoURI, PolicyURI: m.PolicyURI, TOSURI: m.TOSURI, Contacts: m.Contacts,
		LogoutAddresses: m.LogoutAddresses, InitiateLoginURI: m.InitiateLogin, Messages: m.Messages, Encryption: m.Encryption, SignInWishes: m.known(),
		Software: Software{SoftwareID: m.SoftwareID, SoftwareVersion: m.SoftwareVersion},
	}
	if m.AuthMethod == AuthTLS {
		c.TLSSubjectDN, c.TLSDNS, c.TLSURI, c.TLSIP, c.TLSEmail = m.TLSSubjectDN, m.TLSDNS, m.TLSURI, m.TLSIP, m.TLSEmail
	}
	c.dropExtras()
	c.GrantTypes = slices.DeleteFunc(slices.Clone(m.GrantTypes), func(g string) bool { return !slices.Contains(selfGrantTypes, g) })
	switch {
	case len(m.GrantTypes) > 0 && !slices.Contains(c.GrantTypes, GrantAuthorizationCode) && !anyResponseType(m.ResponseTypes, responseType.front):
		return c, fmt.Errorf("grant_types: must hold %s", GrantAuthorizationCode)
	case len(m.GrantTypes) == 0:
		c.GrantTypes = slices.Clone(selfGrantTypes)
	}
	if slices.Contains(m.ResponseTypes, "code") {
		c.ResponseTypes = []string{"code"}
	}
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = offered(m.IDTokenAlgs, []string{"RS256", "ES256", "EdDSA"})
	}
	if len(c.Contacts) > maxListLength {
		c.Contacts = c.Contacts[:maxListLength]
	}
	return c, nil
}

// dropExtras leaves away what a client could do without, where that is better than to refuse the client (RFC 7591 §2 lets a server): pictures and
// pages that come without TLS, and schemes without a dot beside redirect URIs that can be used. Anybody else may have chosen such a scheme.
func (c *Client) dropExtras() {
	for _, u := range []*string{&c.ClientURI, &c.LogoURI, &c.PolicyURI, &c.TOSURI} {
		if strings.HasPrefix(*u, "http://") && !webURL(*u) {
			*u = ""
		}
	}
	usable := slices.DeleteFunc(slices.Clone(c.RedirectURIs), func(raw string) bool {
		u, err := url.Parse(raw)
		return err == nil && u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" && validateRedirectURI(raw) != nil
	})
	if len(usable) > 0 {
		c.RedirectURIs = usable
	}
}
