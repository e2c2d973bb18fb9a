package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Who may register clients over HTTP (RFC 7591).
const (
	RegistrationOff   = "off"
	RegistrationToken = "token" // whoever has an initial access token
	RegistrationOpen  = "open"
)

// registrationPath is not /register, where people make accounts.
const registrationPath = "/connect/register"

// Registrations that are let in, in an hour.
const (
	registrationsPerHour = 20   // from one network, unless set otherwise
	registrationsInAll   = 2000 // by all replicas together
)

// registrationRoutes are there if anybody may register.
func (s *Server) registrationRoutes() []web.Route {
	if !s.registers() {
		return nil
	}
	one := registrationPath + "/{id}"
	return []web.Route{
		{Pattern: "POST " + registrationPath, Handler: cors(s.register)},
		{Pattern: "OPTIONS " + registrationPath, Handler: preflight},
		{Pattern: "GET " + one, Handler: s.managed(s.readRegistration)},
		{Pattern: "PUT " + one, Handler: s.managed(s.replaceRegistration)},
		{Pattern: "DELETE " + one, Handler: s.managed(s.deleteRegistration)},
	}
}

func (s *Server) registers() bool {
	return s.SelfRegistered.Registration == RegistrationOpen || s.SelfRegistered.Registration == RegistrationToken
}

// information is the answer to a client about itself (RFC 7591 §3.2.1, RFC 7592 §3).
type information struct {
	ID            string          `json:"client_id"`
	IssuedAt      int64           `json:"client_id_issued_at"`
	Secret        string          `json:"client_secret,omitempty"`
	SecretExpires *int64          `json:"client_secret_expires_at,omitempty"`
	AccessToken   string          `json:"registration_access_token,omitempty"`
	URI           string          `json:"registration_client_uri"`
	Name          string          `json:"client_name,omitempty"`
	RedirectURIs  []string        `json:"redirect_uris"`
	GrantTypes    []string        `json:"grant_types"`
	ResponseTypes []string        `json:"response_types"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	AuthAlg       string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	Scope         string          `json:"scope"`
	IDTokenAlg    string          `json:"id_token_signed_response_alg"`
	ClientURI     string          `json:"client_uri,omitempty"`
	LogoURI       string          `json:"logo_uri,omitempty"`
	PolicyURI     string          `json:"policy_uri,omitempty"`
	TOSURI        string          `json:"tos_uri,omitempty"`
	Contacts      []string        `json:"contacts,omitempty"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`
	InitiateLogin string          `json:"initiate_login_uri,omitempty"`
	DPoPBound     bool            `json:"dpop_bound_access_tokens,omitempty"`
	CertBound     bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	RequirePAR    bool            `json:"require_pushed_authorization_requests,omitempty"`
	TLSSubjectDN  string          `json:"tls_client_auth_subject_dn,omitempty"`
	TLSDNS        string          `json:"tls_client_auth_san_dns,omitempty"`
	TLSURI        string          `json:"tls_client_auth_san_uri,omitempty"`
	TLSIP         string          `json:"tls_client_auth_san_ip,omitempty"`
	TLSEmail      string          `json:"tls_client_auth_san_email,omitempty"`
	LogoutAddresses
	Software
	Messages
	Encryption
	SignInWishes
}

func (s *Server) information(c Client, secret, token string) information {
	out := information{
		ID: c.ID, IssuedAt: c.CreatedAt.Unix(), Secret: secret, AccessToken: token, URI: s.Site.URL(registrationPath + "/" + c.ID), Name: c.Name,
		RedirectURIs: c.RedirectURIs, GrantTypes: c.GrantTypes, ResponseTypes: c.ResponseTypes, AuthMethod: c.AuthMethod, AuthAlg: c.AuthAlg, Scope: join(c.Scopes),
		IDTokenAlg: c.IDTokenAlg, ClientURI: c.ClientURI, LogoURI: c.LogoURI, PolicyURI: c.PolicyURI, TOSURI: c.TOSURI, Contacts: c.Contacts, JWKS: c.JWKS, JWKSURI: c.JWKSURI,
		InitiateLogin: c.InitiateLoginURI, DPoPBound: c.DPoPBound, CertBound: c.CertificateBound, RequirePAR: c.RequirePAR, LogoutAddresses: c.LogoutAddresses,
		TLSSubjectDN: c.TLSSubjectDN, TLSDNS: c.TLSDNS, TLSURI: c.TLSURI, TLSIP: c.TLSIP, TLSEmail: c.TLSEmail,
		Messages: c.Messages, Encryption: c.Encryption, SignInWishes: c.SignInWishes,
		Software: c.Software,
	}
	if secret != "" {
		out.SecretExpires = new(int64) // 0: never
	}
	return out
}

// register answers POST /connect/register (RFC 7591 §3).
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.registerClient(r)
	if err != nil {
		s.writeRegistrationError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusCreated, answer)
	return nil
}

var errRegistrationToken = newError("invalid_token", "The access token is not valid here.")

func (s *Server) writeRegistrationError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errRegistrationToken) {
		s.challenge(w, http.StatusUnauthorized, false, "invalid_token", "The access token is not valid here.")
		return
	}
	s.writeError(w, r, err)
}

func (s *Server) registerClient(r *http.Request) (information, error) {
	ctx := r.Context()
	token, err := headerToken(r)
	if err != nil || token.dpop || token.value == "" && s.SelfRegistered.Registration != RegistrationOpen {
		return information{}, errRegistrationToken
	}
	if err := s.spendRegistration(ctx); err != nil {
		return information{}, err
	}
	policy, err := s.Clients.policy(ctx, token.value)
	if err != nil {
		return information{}, err
	}
	m, err := readRegistration(r)
	if err == nil && m.SoftwareStatement != "" {
		if err = s.checkStatement(ctx, m.SoftwareStatement); err == nil {
			m, err = m.stated(m.SoftwareStatement)
		}
	}
	if err != nil {
		return information{}, err
	}
	client, err := s.fromMetadata(m, policy)
	if err != nil {
		return information{}, err
	}
	if err := s.checkNewSector(ctx, client); err != nil {
		return information{}, err
	}
	client, secret, access, err := s.Clients.register(ctx, client, token.value)
	if err != nil {
		return information{}, err
	}
	return s.information(client, secret, access), nil
}

// legacy makes a client of one that wants tokens with the redirect. It is an app like others, no agent: nobody could count such tokens.
func (m clientMetadata) legacy(c Client) Client {
	c.Profile = ProfileOIDCBasic
	c.ResponseTypes, c.GrantTypes = m.ResponseTypes, []string{GrantImplicit}
	if anyResponseType(m.ResponseTypes, holdsCode) {
		c.GrantTypes = append(c.GrantTypes, GrantAuthorizationCode)
		if len(m.GrantTypes) == 0 || slices.Contains(m.GrantTypes, GrantRefreshToken) {
			c.GrantTypes = append(c.GrantTypes, GrantRefreshToken)
		}
	}
	return c
}

// spendRegistration bounds what strangers can write into the database.
func (s *Server) spendRegistration(ctx context.Context) error {
	limit := s.SelfRegistered.PerHour
	if limit <= 0 {
		limit = registrationsPerHour
	}
	wait, err := time.Duration(0), error(nil)
	if network := web.Network(ctx); network != "" {
		wait, err = s.Cache.Allow(ctx, "registrations:"+network, limit, time.Hour)
	}
	if err == nil && wait == 0 {
		wait, err = s.Cache.Allow(ctx, "registrations", registrationsInAll, time.Hour)
	}
	if err == nil && wait > 0 {
		err = newError("temporarily_unavailable", "Too many registrations. Try again later.")
	}
	return err
}

func readRegistration(r *http.Request) (clientMetadata, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return clientMetadata{}, newError("invalid_client_metadata", "Send the metadata as application/json.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return clientMetadata{}, newError("invalid_client_metadata", "The body could not be read, or is too large.")
	}
	m, err := readMetadata(body)
	if err != nil {
		return clientMetadata{}, newError("invalid_client_metadata", "The body "+err.Error()+".")
	}
	return m, nil
}

// checkNewSector asks whether the sector knows a client that describes itself.
func (s *Server) checkNewSector(ctx context.Context, c Client) error {
	err := s.Clients.checkSector(ctx, c)
	if errors.Is(err, errSectorAway) {
		s.Log.InfoContext(ctx, "sector of a client cannot be fetched", "err", err)
		err = fmt.Errorf("sector_identifier_uri: %w", errSectorAway)
	}
	if err != nil && !errors.Is(err, db.ErrUnavailable) {
		err = newError("invalid_client_metadata", err.Error())
	}
	return err
}

// registrationMethods are the ways of authentication that a client may give itself, beside certificates where those are asked for: one that
// names the certificate of somebody else has shut itself out.
var registrationMethods = []string{AuthNone, AuthBasic, AuthPost, AuthSecretJWT, AuthPrivateKeyJWT}

// fromMetadata makes a client of what one says about itself, with nothing that only operators give.
func (s *Server) fromMetadata(m clientMetadata, policy RegistrationPolicy) (Client, error) {
	wrong := func(err error) (Client, error) {
		code := "invalid_client_metadata"
		if strings.HasPrefix(err.Error(), "redirect_uri") {
			code = "invalid_redirect_uri"
		}
		return Client{}, newError(code, err.Error())
	}
	if m.AuthMethod == "" {
		m.AuthMethod = AuthBasic // RFC 7591 §2
		if len(m.AuthMethods) > 0 {
			m.AuthMethod = offered(m.AuthMethods, []string{AuthPrivateKeyJWT, AuthBasic, AuthPost, AuthNone})
		}
	}
	if methods := slices.Concat(registrationMethods, s.Certificates.methods()); !slices.Contains(methods, m.AuthMethod) {
		return wrong(fmt.Errorf("token_endpoint_auth_method: use one of %s", oneOf(methods)))
	}
	c, err := m.client(OriginRegistration)
	if err != nil {
		return wrong(err)
	}
	if c.Name == "" {
		c.Name = "App" // RFC 7591 §2 lets clients go without
	}
	c.Profile = ProfileMCP // people are shown it as an agent, and may bound it
	if s.SelfRegistered.Suite && m.AuthMethod != AuthNone {
		c.Profile = ProfileOIDCBasic
	}
	if s.LegacyResponseTypes && anyResponseType(m.ResponseTypes, responseType.front) {
		c = m.legacy(c)
	}
	c.Policy, c.SoftwareStatement = policy, m.SoftwareStatement
	if c.Scopes = slices.Clone(s.SelfRegistered.Scopes); len(policy.Scopes) > 0 {
		c.Scopes = slices.Clone(policy.Scopes)
	}
	if asked := strings.Fields(m.Scope); len(asked) > 0 {
		if may := slices.DeleteFunc(asked, func(scope string) bool { return !slices.Contains(c.Scopes, scope) }); len(may) > 0 {
			c.Scopes = may
		}
	}
	if c.InitiateLoginURI != "" && !webURL(c.InitiateLoginURI) {
		return wrong(errors.New("initiate_login_uri: give an https URL (http only on loopback)"))
	}
	c = c.WithDefaults()
	draft := c
	draft.ID = "new"
	if err := draft.Validate(); err != nil {
		return wrong(err)
	}
	if s.Clients.blocked(c) {
		return wrong(errors.New("redirect_uris: not allowed here"))
	}
	return c, policy.check(c)
}

// newAccess makes a token of 256 random bits; the database keeps its hash.
func newAccess() (token string, hash []byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(token))
	return token, sum[:]
}

func accessHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// register adds a client that describes itself. initial is an initial access token, which is used up by it; "" for none.
func (c *Clients) register(ctx context.Context, client Client, initial string) (made Client, secret, access string, err error) {
	client.ID = strings.ToLower(rand.Text())
	client.CreatedAt = c.Now().UTC().Truncate(time.Microsecond)
	client.UpdatedAt = client.CreatedAt
	secrets := []storedSecret{}
	if client.HasSecret() {
		var stored storedSecret
		secret, stored = c.newSecret(client)
		secrets = append(secrets, stored)
	}
	access, hash := newAccess()
	err = c.DB.Tx(ctx, func(ctx context.Context) error {
		if initial != "" {
			n, err := c.DB.Exec(ctx, `UPDATE registration_tokens SET uses_left = uses_left - 1 WHERE hash = $1 AND uses_left > 0 AND expires_at > $2`, accessHash(initial), db.At(c.Now()))
			if err != nil {
				return err
			}
			if n == 0 {
				return errRegistrationToken
			}
		}
		// No other replica remembers that the id was unknown, so the version that they poll stays: else strangers could make all of them
		// read every client anew, all the time.
		if _, err := c.DB.Exec(ctx, `INSERT INTO clients (id, metadata, secrets, disabled, created_at, updated_at, origin, expires_at, access_hash)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, client.ID, db.JSON(&client), db.JSON(&secrets), false, db.At(client.CreatedAt), db.At(client.UpdatedAt),
			client.Origin, db.At(client.CreatedAt.Add(unusedTTL)), hash); err != nil {
			return err
		}
		c.Audit.Record(ctx, audit.Event{Action: "client.create", ClientID: client.ID})
		return nil
	})
	return client, secret, access, err
}

// policy is what an initial access token allows; "" is none. It is not used up yet.
func (c *Clients) policy(ctx context.Context, initial string) (p RegistrationPolicy, err error) {
	if initial == "" {
		return p, nil
	}
	err = c.DB.QueryRow(ctx, `SELECT policy FROM registration_tokens WHERE hash = $1 AND uses_left > 0 AND expires_at > $2`, accessHash(initial), db.At(c.Now())).Scan(db.JSON(&p))
	if errors.Is(err, db.ErrNotFound) {
		err = errRegistrationToken
	}
	return p, err
}

// managed lets in whoever has the registration access token of the client in the path (RFC 7592 §2). All other answers are alike, and
// a client that an operator has disabled has no say any more: nothing it sends can enable it (CVE-2026-9705 of another server).
func (s *Server) managed(next func(w http.ResponseWriter, r *http.Request, id, token string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token, err := headerToken(r)
		id := r.PathValue("id")
		if err != nil || token.value == "" || token.dpop || !validID(id) {
			s.writeRegistrationError(w, r, errRegistrationToken)
			return nil
		}
		if err := next(w, r, id, token.value); err != nil {
			if errors.Is(err, db.ErrNotFound) {
				err = errRegistrationToken
			}
			s.writeRegistrationError(w, r, err)
		}
		return nil
	}
}

// ownRegistration finds a client by its registration access token: the present one or, until that was used, the one before. Whose answer to an
// update got lost is not locked out by it.
func (s *Server) ownRegistration(ctx context.Context, id, token string) (*registration, error) {
	hash := accessHash(token)
	if _, err := s.DB.Exec(ctx, `UPDATE clients SET access_hash_before = NULL WHERE id = $1 AND access_hash = $2 AND access_hash_before IS NOT NULL`, id, hash); err != nil {
		return nil, err
	}
	return scanClient(s.DB.QueryRow(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = $1 AND (access_hash = $2 OR access_hash_before = $2) AND NOT disabled`, id, hash))
}

func (s *Server) readRegistration(w http.ResponseWriter, r *http.Request, id, token string) error {
	c, err := s.ownRegistration(r.Context(), id, token)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.information(c.Client, "", token))
	return nil
}

// replaceRegistration answers PUT (RFC 7592 §2.2). With it the registration access token changes.
func (s *Server) replaceRegistration(w http.ResponseWriter, r *http.Request, id, token string) error {
	ctx := r.Context()
	m, err := readRegistration(r)
	if err != nil {
		return err
	}
	if m.ID != id {
		return newError("invalid_client_metadata", "The client_id must be that of the client.")
	}
	before, err := s.ownRegistration(ctx, id, token)
	if err != nil {
		return err
	}
	if m, err = s.statedAnew(ctx, m, before.SoftwareStatement); err != nil {
		return err
	}
	if err := s.checkNewSector(ctx, Client{ID: id, RedirectURIs: m.RedirectURIs, Messages: m.Messages}); err != nil { // before anything is locked
		return err
	}
	var made Client
	access, hash := newAccess()
	secret := ""
	err = s.Clients.change(ctx, "client.update", id, func(ctx context.Context) error {
		old, err := scanClient(s.DB.QueryRow(ctx, `UPDATE clients SET updated_at = $3, access_hash = $4, access_hash_before = $2
			WHERE id = $1 AND (access_hash = $2 OR access_hash_before = $2) AND NOT disabled RETURNING `+clientColumns, id, accessHash(token), db.At(s.Now()), hash))
		if err != nil {
			return err
		}
		if old.SoftwareStatement != before.SoftwareStatement {
			return newError("temporarily_unavailable", "Another update was quicker. Try again.")
		}
		said, err := s.fromMetadata(m, old.Policy)
		if err != nil {
			return err
		}
		made = old.describedAnew(said)
		if err := made.Validate(); err != nil {
			return newError("invalid_client_metadata", err.Error())
		}
		secrets := keptBy(made, old.secrets)
		if made.HasSecret() && len(secrets) == 0 {
			var stored storedSecret
			secret, stored = s.Clients.newSecret(made)
			secrets = append(secrets, stored)
		}
		_, err = s.DB.Exec(ctx, `UPDATE clients SET metadata = $2, secrets = $3 WHERE id = $1`, id, db.JSON(&made), db.JSON(&secrets))
		return err
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.information(made, secret, access))
	return nil
}

// statedAnew is stated for a client that changes its words. It cannot leave the statement away that it came with, nor change it for
// one of somebody else.
func (s *Server) statedAnew(ctx context.Context, m clientMetadata, before string) (clientMetadata, error) {
	switch {
	case m.SoftwareStatement == "" && before == "":
		return m, nil
	case m.SoftwareStatement == "", m.SoftwareStatement == before:
		return m.stated(before)
	}
	if err := s.checkStatement(ctx, m.SoftwareStatement); err != nil {
		return m, err
	}
	if before != "" && statedBy(before) != statedBy(m.SoftwareStatement) {
		return m, newError("unapproved_software_statement", "The software statement must be of the issuer of the first one.")
	}
	return m.stated(m.SoftwareStatement)
}

// describedAnew is the client with all that it may say about itself in other words. Whatever else there is stays, among it all that
// operators have said since.
func (c Client) describedAnew(said Client) Client {
	c.Name, c.RedirectURIs, c.GrantTypes, c.ResponseTypes, c.Scopes = said.Name, said.RedirectURIs, said.GrantTypes, said.ResponseTypes, said.Scopes
	c.AuthMethod, c.AuthAlg, c.JWKS, c.JWKSURI, c.DPoPBound, c.RequirePAR = said.AuthMethod, said.AuthAlg, said.JWKS, said.JWKSURI, said.DPoPBound, said.RequirePAR
	c.ClientURI, c.LogoURI, c.PolicyURI, c.TOSURI, c.Contacts, c.InitiateLoginURI = said.ClientURI, said.LogoURI, said.PolicyURI, said.TOSURI, said.Contacts, said.InitiateLoginURI
	c.IDTokenAlg, c.LogoutAddresses, c.Messages, c.Encryption, c.SignInWishes = said.IDTokenAlg, said.LogoutAddresses, said.Messages, said.Encryption, said.SignInWishes
	c.CertificateBound, c.TLSSubjectDN, c.TLSDNS, c.TLSURI, c.TLSIP, c.TLSEmail = said.CertificateBound, said.TLSSubjectDN, said.TLSDNS, said.TLSURI, said.TLSIP, said.TLSEmail
	c.Software = said.Software
	if c.Profile == ProfileMCP { // nobody but itself has had a say in it
		c.Profile, c.RequirePKCE = said.Profile, said.RequirePKCE
	}
	return c
}

func (s *Server) deleteRegistration(w http.ResponseWriter, r *http.Request, id, token string) error {
	err := s.Clients.change(r.Context(), "client.delete", id, func(ctx context.Context) error {
		return one(s.DB.Exec(ctx, `DELETE FROM clients WHERE id = $1 AND (access_hash = $2 OR access_hash_before = $2) AND NOT disabled`, id, accessHash(token)))
	})
	if err != nil {
		return err
	}
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// InitialToken is what lets its holder register clients.
type InitialToken struct {
	ID        string    `json:"id"`
	Note      string    `json:"note,omitempty"`
	UsesLeft  int64     `json:"uses_left"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`

	Policy RegistrationPolicy `json:"policy,omitzero"`
}

// CreateToken makes an initial access token, which is shown this once.
func (c *Clients) CreateToken(ctx context.Context, note string, uses int, life time.Duration, policy RegistrationPolicy) (t InitialToken, token string, err error) {
	if uses < 1 || uses > 10_000 || life <= 0 || life > 366*24*time.Hour || len(note) > maxNameLength || !printable(note) {
		return t, "", fmt.Errorf("uses: 1 to 10000; life: up to 366 days; note: at most %d printable characters", maxNameLength)
	}
	if err := policy.validate(); err != nil {
		return t, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return t, "", err
	}
	token, hash := newAccess()
	now := c.Now().UTC().Truncate(time.Microsecond)
	t = InitialToken{id.String(), note, int64(uses), now, now.Add(life), policy}
	err = c.DB.Tx(ctx, func(ctx context.Context) error {
		_, err := c.DB.Exec(ctx, `INSERT INTO registration_tokens (id, hash, note, uses_left, created_at, expires_at, policy) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.ID, hash, t.Note, t.UsesLeft, db.At(t.CreatedAt), db.At(t.ExpiresAt), db.JSON(&t.Policy))
		if err == nil {
			c.Audit.Record(ctx, audit.Event{Action: "client.create_token"})
		}
		return err
	})
	return t, token, err
}

// Tokens lists up to limit initial access tokens.
func (c *Clients) Tokens(ctx context.Context, limit int) ([]InitialToken, error) {
	list := []InitialToken{}
	err := c.DB.Query(ctx, func(row db.Scanner) error {
		var t InitialToken
		var created, expires db.Time
		err := row.Scan(&t.ID, &t.Note, &t.UsesLeft, &created, &expires, db.JSON(&t.Policy))
		t.CreatedAt, t.ExpiresAt = created.Time, expires.Time
		list = append(list, t)
		return err
	}, `SELECT id, note, uses_left, created_at, expires_at, policy FROM registration_tokens ORDER BY id LIMIT $1`, limit)
	return list, err
}

// DeleteToken ends an initial access token. What was registered with it stays.
func (c *Clients) DeleteToken(ctx context.Context, id string) error {
	return c.DB.Tx(ctx, func(ctx context.Context) error {
		if err := one(c.DB.Exec(ctx, `DELETE FROM registration_tokens WHERE id = $1`, id)); err != nil {
			return err
		}
		c.Audit.Record(ctx, audit.Event{Action: "client.delete_token"})
		return nil
	})
}
