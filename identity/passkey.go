package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const (
	maxPasskeys      = 20
	maxPasskeyName   = 60
	maxPasskeyAnswer = 16 << 10 // bytes of JSON; a large attestation has about three thousand
	challengeLife    = 10 * time.Minute
	passkeyTries     = 300 // answers of one client address per passkeyWindow: each costs the check of a signature
	passkeyWindow    = 10 * time.Minute
)

// Passkey is one of a person's passkeys.
type Passkey struct {
	ID        string
	Name      string
	Synced    bool // lives on several of the person's devices
	Copied    bool // refused since its counter went backwards
	CreatedAt time.Time
	UsedAt    time.Time // zero: never
}

// PasskeyUse is what a challenge is for. A challenge serves no other.
type PasskeyUse string

// The uses.
const (
	PasskeyEnrol   PasskeyUse = "enrol"   // a person adds a passkey
	PasskeySignIn  PasskeyUse = "sign-in" // somebody signs in, not known before the answer
	PasskeyPresent PasskeyUse = "present" // somebody known proves that it is them: second step, step-up, confirmation
)

// Ceremony says for what, for whom and in which browser a passkey is asked for. The answer must come in the same.
type Ceremony struct {
	Use     PasskeyUse
	UserID  string // empty with PasskeySignIn
	Browser string // a secret of the browser, from its cookie
	Scope   string // what it goes on with: the interaction, the login or the session
}

// passkeyChallenge is a challenge that waits for its answer, in the cache.
type passkeyChallenge struct {
	Ceremony Ceremony             `json:"ceremony"`
	Data     webauthn.SessionData `json:"data"`
}

// storedPasskey is what passkeys.sealed holds.
type storedPasskey struct {
	Name       string   `json:"name"`
	Credential []byte   `json:"credential"`
	PublicKey  []byte   `json:"public_key"` // COSE
	Transports []string `json:"transports,omitempty"`
	AAGUID     []byte   `json:"aaguid,omitempty"` // the model of the authenticator
	Synced     bool     `json:"synced,omitempty"` // backup eligible; never changes (WebAuthn L3 §6.1.3)
}

// passkeyRow is a row of passkeys, opened.
type passkeyRow struct {
	Passkey
	stored    storedPasskey
	signCount uint32
}

func (r passkeyRow) credential() webauthn.Credential {
	c := webauthn.Credential{
		ID: r.stored.Credential, PublicKey: r.stored.PublicKey, Flags: webauthn.CredentialFlags{BackupEligible: r.stored.Synced},
		Authenticator: webauthn.Authenticator{AAGUID: r.stored.AAGUID, SignCount: r.signCount},
	}
	for _, t := range r.stored.Transports {
		c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
	}
	return c
}

// passkeyHolder is a person as the library wants to see one. The handle is the account's id, which names nobody and lives as
// long as the account.
type passkeyHolder struct {
	user User
	rows []passkeyRow
}

// WebAuthnID implements webauthn.User.
func (h passkeyHolder) WebAuthnID() []byte { return passkeyHandle(h.user.ID) }

// WebAuthnName implements webauthn.User.
func (h passkeyHolder) WebAuthnName() string { return h.user.Email }

// WebAuthnDisplayName implements webauthn.User.
func (h passkeyHolder) WebAuthnDisplayName() string {
	if h.user.Profile.Name != "" {
		return h.user.Profile.Name
	}
	return h.user.Email
}

// WebAuthnCredentials implements webauthn.User.
func (h passkeyHolder) WebAuthnCredentials() []webauthn.Credential {
	var list []webauthn.Credential
	for _, r := range h.rows {
		if !r.Copied {
			list = append(list, r.credential())
		}
	}
	return list
}

func passkeyHandle(userID string) []byte {
	id, err := uuid.Parse(userID)
	if err != nil {
		return []byte(userID)
	}
	return id[:]
}

// newRelyingParty takes the relying party from the configured origin of the pages, and from nothing else. It is nil where
// browsers offer no passkeys: without https except on localhost, and at an address instead of a name (WebAuthn L3 §5.1.3).
func newRelyingParty(origin, name string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(origin)
	if err != nil || origin == "" {
		return nil, err
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || u.Scheme != "https" && host != "localhost" {
		return nil, nil //nolint:nilnil // there are none here
	}
	if name == "" {
		name = host
	}
	timeouts := webauthn.TimeoutConfig{Enforce: false, Timeout: challengeLife, TimeoutUVD: challengeLife} // the cache enforces it
	return webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: name, RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeouts, Registration: timeouts},
	})
}

// PasskeysPossible tells whether people can have passkeys at this server.
func (d *Directory) PasskeysPossible() bool { return d.relyingParty != nil }

// BeginPasskey makes a challenge and returns the options for the browser, as JSON in the form of WebAuthn L3 §5.1.8 and §5.1.9. For a
// sign-in they are the same for everybody (account enumeration). ErrNotFound: no passkeys here, or the person has none to
// present. ErrPasskeys: they have as many as anybody may.
func (d *Directory) BeginPasskey(ctx context.Context, c Ceremony) (options []byte, err error) {
	if d.relyingParty == nil {
		return nil, ErrNotFound
	}
	var public any
	var data *webauthn.SessionData
	switch c.Use {
	case PasskeySignIn:
		assertion, s, err := d.relyingParty.BeginDiscoverableLogin()
		if err != nil {
			return nil, fmt.Errorf("begin passkey sign-in: %w", err)
		}
		public, data = assertion.Response, s
	case PasskeyPresent, PasskeyEnrol:
		holder, err := d.passkeyHolder(ctx, c.UserID)
		if err != nil {
			return nil, err
		}
		if c.Use == PasskeyPresent {
			if len(holder.WebAuthnCredentials()) == 0 {
				return nil, ErrNotFound
			}
			assertion, s, err := d.relyingParty.BeginLogin(holder)
			if err != nil {
				return nil, fmt.Errorf("begin presenting a passkey: %w", err)
			}
			public, data = assertion.Response, s
			break
		}
		if len(holder.rows) >= maxPasskeys {
			return nil, ErrPasskeys
		}
		var known []protocol.CredentialDescriptor
		for _, r := range holder.rows {
			cred := r.credential()
			known = append(known, cred.Descriptor())
		}
		creation, s, err := d.relyingParty.BeginRegistration(holder, webauthn.WithExclusions(known),
			webauthn.WithCredentialParameters(webauthn.CredentialParametersRecommendedL3()))
		if err != nil {
			return nil, fmt.Errorf("begin passkey registration: %w", err)
		}
		public, data = creation.Response, s
	default:
		return nil, fmt.Errorf("passkey: no use %q", c.Use)
	}
	if options, err = json.Marshal(public); err != nil {
		return nil, fmt.Errorf("passkey options: %w", err)
	}
	value, err := json.Marshal(passkeyChallenge{c.hashed(), *data})
	if err != nil {
		return nil, fmt.Errorf("passkey challenge: %w", err)
	}
	if err := d.cache.Put(ctx, challengeKey(data.Challenge), value, challengeLife); err != nil {
		return nil, fmt.Errorf("passkey challenge: %w", err)
	}
	return options, nil
}

// hashed keeps what the browser presents out of the cache.
func (c Ceremony) hashed() Ceremony {
	c.Browser = hex.EncodeToString(hashToken(c.Browser))
	c.Scope = hex.EncodeToString(hashToken(c.Scope))
	return c
}

func challengeKey(challenge string) string {
	return "passkey-challenge:" + hex.EncodeToString(hashToken(challenge))
}

// takeChallenge takes the challenge that an answer names: whoever comes second finds none (replay). One that was made for something else,
// somebody else or another browser is lost as well.
func (d *Directory) takeChallenge(ctx context.Context, challenge string, c Ceremony) (webauthn.SessionData, error) {
	value, ok, err := d.cache.Take(ctx, challengeKey(challenge))
	if err != nil {
		return webauthn.SessionData{}, fmt.Errorf("take passkey challenge: %w", err)
	}
	if !ok {
		return webauthn.SessionData{}, fmt.Errorf("no such challenge: %w", ErrPasskey)
	}
	var known passkeyChallenge
	if err := json.Unmarshal(value, &known); err != nil {
		return webauthn.SessionData{}, fmt.Errorf("read passkey challenge: %w", err)
	}
	if c.Browser == "" || known.Ceremony != c.hashed() {
		return webauthn.SessionData{}, fmt.Errorf("challenge of another ceremony: %w", ErrPasskey)
	}
	return known.Data, nil
}

// AddPasskey makes what the browser answered to a PasskeyEnrol a passkey of the person. If it is their first second factor, two-step sign-in
// is on from now, and recovery has ten codes, which cannot be shown again. amr is what was proven by this. ErrPasskey: the answer is not
// valid, or the authenticator is known already; FieldErrors: the name; ErrPasskeys: there are too many; ErrStale: s does not stand any more.
func (d *Directory) AddPasskey(ctx context.Context, s Session, c Ceremony, name string, answer []byte) (added Passkey, recovery, amr []string, err error) {
	if name, err = passkeyName(name); err != nil {
		return added, nil, nil, err
	}
	if c.Use != PasskeyEnrol || c.UserID != s.UserID || d.relyingParty == nil || len(answer) > maxPasskeyAnswer {
		return added, nil, nil, ErrPasskey
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return added, nil, nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	data, err := d.takeChallenge(ctx, parsed.Response.CollectedClientData.Challenge, c)
	if err != nil {
		return added, nil, nil, err
	}
	data.UserVerification = protocol.VerificationRequired // whatever the record says
	cred, err := d.relyingParty.CreateCredential(passkeyHolder{user: User{ID: c.UserID}}, data, parsed)
	if err != nil {
		return added, nil, nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	stored := storedPasskey{
		Name: name, Credential: cred.ID, PublicKey: cred.PublicKey, AAGUID: cred.Authenticator.AAGUID, Synced: cred.Flags.BackupEligible,
	}
	for _, t := range cred.Transport {
		if len(t) <= 32 && len(stored.Transports) < 8 {
			stored.Transports = append(stored.Transports, string(t))
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return added, nil, nil, err
	}
	added = Passkey{ID: id.String(), Name: name, Synced: stored.Synced, CreatedAt: d.now()}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, c.UserID)
		if err != nil {
			return err
		}
		if err := d.stands(ctx, s); err != nil {
			return err
		}
		sealed, err := d.sealPasskey(c.UserID, added.ID, dataKey, stored)
		if err != nil {
			return err
		}
		var passkeys, factors int
		if err := d.db.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM passkeys WHERE user_id = $1),
			(SELECT COUNT(*) FROM totp WHERE user_id = $1 AND confirmed_at IS NOT NULL)`, c.UserID).Scan(&passkeys, &factors); err != nil {
			return err
		}
		if passkeys >= maxPasskeys {
			return ErrPasskeys
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO passkeys (id, user_id, credential_hash, sealed, sign_count, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			added.ID, c.UserID, credentialHash(cred.ID), sealed, int64(cred.Authenticator.SignCount), db.At(added.CreatedAt)); err != nil {
			return err
		}
		if passkeys+factors == 0 {
			if recovery, err = d.replaceRecoveryCodes(ctx, c.UserID); err != nil {
				return err
			}
		}
		d.audit.Record(ctx, audit.Event{Action: "passkey.add", Actor: c.UserID, UserID: c.UserID, Detail: map[string]string{"passkey": added.ID}})
		return nil
	})
	switch {
	case errors.Is(err, db.ErrConflict): // an authenticator that ignores the list of known ones, or somebody else's credential
		return added, nil, nil, fmt.Errorf("credential is known: %w", ErrPasskey)
	case err != nil:
		return added, nil, nil, fmt.Errorf("add passkey: %w", err)
	}
	return added, recovery, passkeyAMR(stored), nil
}

// CheckPasskey judges the browser's answer to a challenge. It returns the person and what was proven: a passkey with user
// verification is two factors at once. ErrPasskey covers whatever is wrong alike: an unknown passkey, another person's, a removed
// one, a bad signature, a replay, somebody whose account is closed to them. A passkey whose counter went backwards has a copy
// somewhere; it is refused from then on, and the error is a *CopiedError, which pages show like any other.
func (d *Directory) CheckPasskey(ctx context.Context, c Ceremony, answer []byte, addr netip.Addr) (User, []string, error) {
	if c.Use != PasskeySignIn && c.Use != PasskeyPresent || d.relyingParty == nil || len(answer) > maxPasskeyAnswer {
		return User{}, nil, ErrPasskey
	}
	if err := d.spend(ctx, "passkey-address:"+addressKey(addr), passkeyTries, passkeyWindow); err != nil {
		return User{}, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return User{}, nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	data, err := d.takeChallenge(ctx, parsed.Response.CollectedClientData.Challenge, c)
	if err != nil {
		return User{}, nil, err
	}
	data.UserVerification = protocol.VerificationRequired // whatever the record says
	u, row, err := d.passkeyOf(ctx, parsed.RawID)
	if err != nil {
		return User{}, nil, err
	}
	if err := d.verifyPasskey(c, data, parsed, u, row); err != nil {
		d.passkeyFailed(ctx, u.ID, row.ID, "answer")
		return User{}, nil, fmt.Errorf("%w: %w", ErrPasskey, err)
	}
	reason := ""
	switch {
	case row.Copied:
		reason = "copied"
	case u.Status == StatusClosing:
		if reason, err = d.closed(ctx, u.ID); err != nil {
			return User{}, nil, err
		}
	case u.Status != StatusActive:
		reason = "disabled"
	}
	if reason != "" {
		d.passkeyFailed(ctx, u.ID, row.ID, reason)
		return User{}, nil, ErrPasskey
	}
	if err := d.countPasskey(ctx, u, row, parsed.Response.AuthenticatorData.Counter); err != nil {
		return User{}, nil, err
	}
	d.audit.Record(ctx, audit.Event{Action: "passkey.check", Actor: u.ID, UserID: u.ID, Detail: map[string]string{"passkey": row.ID, "use": string(c.Use)}})
	return u, passkeyAMR(row.stored), nil
}

// verifyPasskey holds an answer against the passkey it names (WebAuthn L3 §7.2). Whose the passkey is must be who was asked.
func (d *Directory) verifyPasskey(c Ceremony, data webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData, u User, row passkeyRow) error {
	row.Copied = false // judged by the caller, once the answer is known to be genuine
	holder := passkeyHolder{user: u, rows: []passkeyRow{row}}
	if c.Use == PasskeySignIn {
		_, _, err := d.relyingParty.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return holder, nil }, data, parsed)
		return err
	}
	if u.ID != c.UserID {
		return errors.New("somebody else's passkey")
	}
	data.AllowedCredentialIDs = nil // all of them are this person's
	_, err := d.relyingParty.ValidateLogin(holder, data, parsed)
	return err
}

// countPasskey notes a use. An authenticator that counts must have counted further than ever before (WebAuthn L3 §7.2 step 22): of
// two answers with one count, one wins.
func (d *Directory) countPasskey(ctx context.Context, u User, row passkeyRow, count uint32) error {
	n, err := d.db.Exec(ctx, `UPDATE passkeys SET sign_count = $2, used_at = $3
		WHERE id = $1 AND copied_at IS NULL AND (sign_count < $2 OR sign_count = 0 AND $2 = 0)`, row.ID, int64(count), db.At(d.now()))
	if err != nil {
		return fmt.Errorf("count use of passkey: %w", err)
	}
	if n == 1 {
		return nil
	}
	n, err = d.db.Exec(ctx, `UPDATE passkeys SET copied_at = $2 WHERE id = $1 AND copied_at IS NULL`, row.ID, db.At(d.now()))
	if err != nil {
		return fmt.Errorf("refuse copied passkey: %w", err)
	}
	d.passkeyFailed(ctx, u.ID, row.ID, "copied")
	if n == 0 { // removed, or refused already
		return ErrPasskey
	}
	return &CopiedError{User: u, Name: row.Name}
}

func (d *Directory) passkeyFailed(ctx context.Context, userID, passkeyID, reason string) {
	d.audit.Record(ctx, audit.Event{
		Action: "passkey.check", Outcome: audit.Failure, UserID: userID, Detail: map[string]string{"passkey": passkeyID, "reason": reason},
	})
}

// CopiedError is an ErrPasskey that says whose passkey was seen in two places, so that they can be told.
type CopiedError struct {
	User User
	Name string // of the passkey
}

// Error implements error.
func (e *CopiedError) Error() string { return "the passkey has a copy" }

// Unwrap makes it an ErrPasskey.
func (e *CopiedError) Unwrap() error { return ErrPasskey }

// passkeyAMR says what a passkey with user verification proves (RFC 8176 §2).
func passkeyAMR(p storedPasskey) []string {
	key := AMRHardware
	if p.Synced {
		key = AMRSoftware
	}
	return []string{key, AMRPresence, AMRMFA}
}

// Passkeys lists a person's passkeys, the oldest first.
func (d *Directory) Passkeys(ctx context.Context, userID string) ([]Passkey, error) {
	rows, err := d.passkeyRows(ctx, userID)
	list := make([]Passkey, 0, len(rows))
	for _, r := range rows {
		list = append(list, r.Passkey)
	}
	return list, err
}

// RenamePasskey gives one of a person's passkeys another name. FieldErrors or ErrNotFound.
func (d *Directory) RenamePasskey(ctx context.Context, userID, id, name string) error {
	name, err := passkeyName(name)
	if err != nil {
		return err
	}
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		var sealed []byte
		if err := d.db.QueryRow(ctx, `SELECT sealed FROM passkeys WHERE id = $1 AND user_id = $2`, id, userID).Scan(&sealed); err != nil {
			return err
		}
		stored, err := d.openPasskey(userID, id, dataKey, sealed)
		if err != nil {
			return err
		}
		stored.Name = name
		if sealed, err = d.sealPasskey(userID, id, dataKey, stored); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `UPDATE passkeys SET sealed = $2 WHERE id = $1`, id, sealed); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "passkey.rename", Actor: userID, UserID: userID, Detail: map[string]string{"passkey": id}})
		return nil
	})
	if err != nil {
		return fmt.Errorf("rename passkey: %w", err)
	}
	return nil
}

// RemovePasskey takes one of a person's passkeys away. With the last second factor the recovery codes go. ErrLastWayIn: without it
// nobody could sign in to the account; ErrNotFound: the person has no such passkey.
func (d *Directory) RemovePasskey(ctx context.Context, userID, id string) (removed Passkey, err error) {
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID) // of two at once, the later sees what is left
		if err != nil {
			return err
		}
		var sealed []byte
		if err := d.db.QueryRow(ctx, `DELETE FROM passkeys WHERE id = $1 AND user_id = $2 RETURNING sealed`, id, userID).Scan(&sealed); err != nil {
			return err
		}
		stored, err := d.openPasskey(userID, id, dataKey, sealed)
		if err != nil {
			return err
		}
		removed = Passkey{ID: id, Name: stored.Name, Synced: stored.Synced}
		ways, err := d.waysIn(ctx, userID, []byte{})
		if err != nil {
			return err
		}
		if ways == 0 {
			return ErrLastWayIn
		}
		if err := d.dropUselessRecoveryCodes(ctx, userID); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "passkey.remove", Actor: userID, UserID: userID, Detail: map[string]string{"passkey": id}})
		return nil
	})
	if err != nil {
		return Passkey{}, fmt.Errorf("remove passkey: %w", err)
	}
	return removed, nil
}

// RemoveSecondFactors takes a person's authenticator app, passkeys and recovery codes away, for an operator whom somebody has asked who lost
// them all. ErrNotFound: there is none.
func (d *Directory) RemoveSecondFactors(ctx context.Context, userID string) error {
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.lock(ctx, userID); err != nil {
			return err
		}
		apps, err := d.db.Exec(ctx, `DELETE FROM totp WHERE user_id = $1`, userID)
		if err != nil {
			return err
		}
		passkeys, err := d.db.Exec(ctx, `DELETE FROM passkeys WHERE user_id = $1`, userID)
		if err != nil {
			return err
		}
		if apps+passkeys == 0 {
			return ErrNotFound
		}
		if apps > 0 {
			d.audit.Record(ctx, audit.Event{Action: "totp.remove", Actor: "cli", UserID: userID})
		}
		if passkeys > 0 {
			d.audit.Record(ctx, audit.Event{Action: "passkey.remove", Actor: "cli", UserID: userID})
		}
		return d.dropUselessRecoveryCodes(ctx, userID)
	})
	if err != nil {
		return fmt.Errorf("remove second factors: %w", err)
	}
	return nil
}

// dropUselessRecoveryCodes removes a person's recovery codes when no second factor is left that they could stand in for.
func (d *Directory) dropUselessRecoveryCodes(ctx context.Context, userID string) error {
	_, err := d.db.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1
		AND NOT EXISTS (SELECT 1 FROM totp t WHERE t.user_id = $1 AND t.confirmed_at IS NOT NULL)
		AND NOT EXISTS (SELECT 1 FROM passkeys pk WHERE pk.user_id = $1)`, userID)
	return err
}

func passkeyName(name string) (string, error) {
	name, key := checkText(strings.TrimSpace(name), maxPasskeyName, false)
	switch {
	case key != "":
		return "", FieldErrors{"name": key}
	case name == "":
		return "", FieldErrors{"name": KeyRequired}
	}
	return name, nil
}

// passkeyHolder reads a person with all their passkeys.
func (d *Directory) passkeyHolder(ctx context.Context, userID string) (h passkeyHolder, err error) {
	if h.user, err = d.User(ctx, userID); err != nil {
		return h, err
	}
	h.rows, err = d.passkeyRows(ctx, userID)
	return h, err
}

const passkeySelect = `SELECT pk.id, pk.user_id, pk.sealed, pk.sign_count, pk.created_at, pk.used_at, pk.copied_at IS NOT NULL, k.wrapped
	FROM passkeys pk JOIN data_keys k ON k.user_id = pk.user_id`

func (d *Directory) scanPasskey(row db.Scanner) (r passkeyRow, userID string, err error) {
	var sealed, dataKey []byte
	var count int64
	var created, used db.Time
	if err := row.Scan(&r.ID, &userID, &sealed, &count, &created, &used, &r.Copied, &dataKey); err != nil {
		return r, "", err
	}
	r.signCount, r.CreatedAt, r.UsedAt = uint32(count), created.Time, used.Time //nolint:gosec // it was a uint32
	r.stored, err = d.openPasskey(userID, r.ID, dataKey, sealed)
	r.Name, r.Synced = r.stored.Name, r.stored.Synced
	return r, userID, err
}

func (d *Directory) passkeyRows(ctx context.Context, userID string) ([]passkeyRow, error) {
	var rows []passkeyRow
	err := d.db.Query(ctx, func(row db.Scanner) error {
		r, _, err := d.scanPasskey(row)
		rows = append(rows, r)
		return err
	}, passkeySelect+` WHERE pk.user_id = $1 ORDER BY pk.id`, userID)
	if err != nil {
		return nil, fmt.Errorf("list passkeys: %w", err)
	}
	return rows, nil
}

// passkeyOf finds whose passkey a credential is, or reports ErrPasskey.
func (d *Directory) passkeyOf(ctx context.Context, credential []byte) (User, passkeyRow, error) {
	r, userID, err := d.scanPasskey(d.db.QueryRow(ctx, passkeySelect+` WHERE pk.credential_hash = $1`, credentialHash(credential)))
	if errors.Is(err, db.ErrNotFound) {
		return User{}, r, fmt.Errorf("unknown credential: %w", ErrPasskey)
	}
	if err != nil {
		return User{}, r, fmt.Errorf("read passkey: %w", err)
	}
	u, err := d.User(ctx, userID)
	return u, r, err
}

func credentialHash(id []byte) []byte {
	sum := sha256.Sum256(id)
	return sum[:]
}

func (d *Directory) sealPasskey(userID, id string, dataKey []byte, p storedPasskey) ([]byte, error) {
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return own.Seal(plain, passkeyPurpose(userID, id)), nil
}

func (d *Directory) openPasskey(userID, id string, dataKey, sealed []byte) (p storedPasskey, err error) {
	var own *seal.Sealer
	if own, err = d.ownSealer(userID, dataKey); err != nil {
		return p, err
	}
	plain, err := own.Open(sealed, passkeyPurpose(userID, id))
	if err == nil {
		err = json.Unmarshal(plain, &p)
	}
	if err != nil {
		return p, fmt.Errorf("passkey of user %s: %w", userID, err)
	}
	return p, nil
}

func passkeyPurpose(userID, id string) string { return "passkey:" + userID + ":" + id }
