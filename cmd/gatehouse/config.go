package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// groups give the settings of serve their order and headings in its help.
var groups = []kong.Group{
	{Key: "site", Title: "Where people reach the server:"},
	{Key: "storage", Title: "Storage:"},
	{Key: "mail", Title: "Mail:"},
	{Key: "people", Title: "Accounts and sign-in:"},
	{Key: "life", Title: "Lifetimes (such as 30s, 10m, 24h, 90d):"},
	{Key: "limits", Title: "Limits on guessing and size:"},
	{Key: "log", Title: "Log (to standard error):"},
	{Key: "try", Title: "Trying it out:"},
}

// storage is where data lives and what it is sealed with; every command that touches data has these settings.
type storage struct {
	DatabaseURL   string `env:"GATEHOUSE_DATABASE_URL" default:"sqlite:./var/gatehouse.db" placeholder:"URL" group:"storage" help:"SQL database: sqlite:PATH or postgres://… [${default}]"`
	RedisURL      string `env:"GATEHOUSE_REDIS_URL" placeholder:"URL" group:"storage" help:"Short-lived state: redis://… or rediss://…; empty keeps it in this process, which then must be the only one."`
	MasterKey     string `env:"GATEHOUSE_MASTER_KEY" placeholder:"BASE64" group:"storage" help:"Keys of 32 bytes that seal secrets in the database, newest first, separated by commas. Prefer the variable or the file: flags show in process lists."`
	MasterKeyFile string `env:"GATEHOUSE_MASTER_KEY_FILE" placeholder:"PATH" group:"storage" help:"File with the same list, readable by its owner only; made at the first start with SQLite, or when set. [./var/master.key]"`
}

const defaultMasterKeyFile = "./var/master.key"

// logging is the shape of the log.
type logging struct {
	LogLevel  string `env:"GATEHOUSE_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" group:"log" help:"debug, info, warn or error; requests are logged at info. [${default}]"`
	LogFormat string `env:"GATEHOUSE_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORMAT" group:"log" help:"text or json. [${default}]"`
}

func (l logging) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.LogLevel)) // one of the names above
	options := &slog.HandlerOptions{Level: level}
	if l.LogFormat == "json" {
		return slog.New(web.LogHandler{Handler: slog.NewJSONHandler(w, options)})
	}
	return slog.New(web.LogHandler{Handler: slog.NewTextHandler(w, options)})
}

// mutualTLS is where clients that authenticate by a TLS certificate are heard (RFC 8705).
type mutualTLS struct {
	Listen string `name:"mtls-listen" env:"GATEHOUSE_MTLS_LISTEN" placeholder:"HOST:PORT" group:"site" help:"Second address, which asks clients for a TLS certificate; needs --tls-cert. [none]"`
	URL    string `name:"mtls-url" env:"GATEHOUSE_MTLS_URL" placeholder:"URL" group:"site" help:"Public URL of that address, announced to clients with certificates. [the issuer's host with the port of --mtls-listen]"`
	CA     string `name:"mtls-ca" env:"GATEHOUSE_MTLS_CA" placeholder:"PATH" group:"site" help:"Authorities (PEM) that issue certificates for tls_client_auth. [none: only self-signed ones]"`
	Header string `name:"client-cert-header" env:"GATEHOUSE_CLIENT_CERT_HEADER" placeholder:"NAME" group:"site" help:"Header in which --trusted-proxies hand on the client's certificate, such as Client-Cert; they must remove it from what clients send. [none]"`
}

// strangers are the settings about apps that no operator has registered.
type strangers struct {
	Documents    bool     `name:"client-documents" env:"GATEHOUSE_CLIENT_DOCUMENTS" default:"true" negatable:"" group:"site" help:"An app may be known by the https address of its own description (Client ID Metadata Document), as MCP clients are. [${default}]"`
	Registration string   `name:"client-registration" env:"GATEHOUSE_CLIENT_REGISTRATION" default:"open" enum:"open,token,off" placeholder:"WHO" group:"site" help:"Which apps may register themselves (RFC 7591): open lets all, token those with an initial access token (gatehouse client token create), off none. [${default}]"`
	Scopes       []string `name:"stranger-scopes" env:"GATEHOUSE_STRANGER_SCOPES" default:"openid,profile,email,offline_access" placeholder:"SCOPE" group:"site" help:"What apps may ask for that no operator has registered. [${default}]"`
	PerHour      int      `name:"limit-client-registrations" env:"GATEHOUSE_LIMIT_CLIENT_REGISTRATIONS" default:"20" placeholder:"N" group:"limits" help:"Apps that register themselves from one network in an hour. [${default}]"`
}

// certification is the test profile: what certification runs need and no server of people may have.
type certification struct {
	Mode string `name:"certification" env:"GATEHOUSE_CERTIFICATION" default:"off" enum:"off,on,force" placeholder:"WHETHER" group:"try" help:"For certification runs: no limits on guessing, addresses that apps name may be on loopback, and no PKCE is asked of apps with a secret or key that register themselves. on wants issuer and listen address on loopback; force does not ask. Never where people are. [${default}]"`
	CA   string `name:"certification-ca" env:"GATEHOUSE_CERTIFICATION_CA" placeholder:"PATH" group:"try" help:"Authorities (PEM) to trust beside the system's when asking apps, in a certification run. [none]"`
}

// settings is everything about serve that can be chosen.
type settings struct {
	Issuer           string   `env:"GATEHOUSE_ISSUER" placeholder:"URL" group:"site" help:"Public URL of the server; it stands in every token. https, or http on loopback; a path is allowed. [http://localhost and the port]"`
	Listen           string   `env:"GATEHOUSE_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" group:"site" help:"Address to listen on; port 0 takes a free one. [${default}]"`
	TLSCert          string   `name:"tls-cert" env:"GATEHOUSE_TLS_CERT" placeholder:"PATH" group:"site" help:"Certificate chain (PEM). A changed file is noticed within a minute. Without it the server speaks plain HTTP, for use behind a proxy."`
	TLSKey           string   `name:"tls-key" env:"GATEHOUSE_TLS_KEY" placeholder:"PATH" group:"site" help:"Key of the certificate (PEM)."`
	TrustedProxies   []string `env:"GATEHOUSE_TRUSTED_PROXIES" placeholder:"CIDR" group:"site" help:"Addresses of proxies whose X-Forwarded-For or Forwarded header tells the client's address. [none]"`
	OutboundNetworks []string `env:"GATEHOUSE_OUTBOUND_NETWORKS" placeholder:"CIDR" group:"site" help:"Private addresses that sign-in providers and apps may have; the server asks no others but public ones. Naming 127.0.0.0/8 or ::1 also allows http there. [none]"`
	Name             string   `env:"GATEHOUSE_NAME" default:"Gatehouse" placeholder:"NAME" group:"site" help:"Name shown on pages and in mails. [${default}]"`

	MutualTLS mutualTLS `embed:""`

	RequireDPoPNonce bool `name:"require-dpop-nonce" env:"GATEHOUSE_REQUIRE_DPOP_NONCE" default:"false" negatable:"" group:"site" help:"DPoP proofs must hold a nonce of this server: one more request now and then, and no proof made in advance works. [${default}]"`
	RequirePAR       bool `name:"require-par" env:"GATEHOUSE_REQUIRE_PAR" default:"false" negatable:"" group:"site" help:"All apps must push their authorization requests (RFC 9126). [${default}]"`

	LegacyResponseTypes bool `env:"GATEHOUSE_LEGACY_RESPONSE_TYPES" default:"false" negatable:"" group:"site" help:"Apps may be registered for the implicit and hybrid flows of OpenID Connect, whose tokens come in the browser's address; for old apps only. [${default}]"`
	SessionManagement   bool `env:"GATEHOUSE_SESSION_MANAGEMENT" default:"false" negatable:"" group:"site" help:"Let apps watch the session by a hidden frame (check_session_iframe). Of no use in browsers that block cookies of other sites. [${default}]"`

	Strangers strangers `embed:""`

	Storage storage `embed:""`

	SMTPURL  string `name:"smtp-url" env:"GATEHOUSE_SMTP_URL" placeholder:"URL" group:"mail" help:"Mail server: smtp://user:password@host:587 (STARTTLS), smtps://…:465 (TLS), smtp://host:25?tls=none. Empty on loopback: mails show in the log and at /inbox."`
	MailFrom string `env:"GATEHOUSE_MAIL_FROM" placeholder:"ADDRESS" group:"mail" help:"Sender of mails, such as \"Example <no-reply@example.com>\"."`

	Registration         string `env:"GATEHOUSE_REGISTRATION" default:"open" enum:"open,invite,off" placeholder:"WHO" group:"people" help:"Who may create an account: open lets everybody, invite those who were invited (gatehouse user invite), off nobody. [${default}]"`
	MailCodes            bool   `env:"GATEHOUSE_MAIL_CODES" default:"false" negatable:"" group:"people" help:"Let people sign in by a one-time code sent by mail in place of the password; it counts as one factor. [${default}]"`
	Challenge            string `env:"GATEHOUSE_CHALLENGE" default:"failures" enum:"off,failures,always" placeholder:"WHEN" group:"people" help:"When a browser must compute for a moment before a form counts: failures asks it of who signs up, and of who signs in after repeated failures; always asks it at each sign-in too; off never. [${default}]"`
	ChallengeEffort      int    `env:"GATEHOUSE_CHALLENGE_EFFORT" default:"1000000" placeholder:"N" group:"people" help:"Hashes that takes at most, half of it on average; a phone does some hundred thousand a second. [${default}]"`
	SignInPolicy         string `env:"GATEHOUSE_SIGN_IN_POLICY" default:"pwd" enum:"pwd,mfa,phr" placeholder:"LEVEL" group:"people" help:"What is enough to sign in: pwd (a password), mfa (a second step as well) or phr (a passkey). Apps can demand more. [${default}]"`
	RequireVerifiedEmail bool   `env:"GATEHOUSE_REQUIRE_VERIFIED_EMAIL" default:"true" negatable:"" group:"people" help:"Let people into apps only after they have proven their email address. [${default}]"`
	Places               string `env:"GATEHOUSE_PLACES" placeholder:"PATH" group:"people" help:"CSV file that tells the place of network addresses, shown to people beside their own devices and activity. [none]"`
	PasswordWorkers      int    `env:"GATEHOUSE_PASSWORD_WORKERS" default:"0" placeholder:"N" group:"people" help:"Passwords checked at the same time; each takes 19 MiB (imported hashes up to 128). 0: one for each processor. [${default}]"`

	CodeTTL        time.Duration `name:"code-ttl" env:"GATEHOUSE_CODE_TTL" default:"60s" placeholder:"TIME" group:"life" help:"Authorization code. [${default}]"`
	AccessTokenTTL time.Duration `name:"access-token-ttl" env:"GATEHOUSE_ACCESS_TOKEN_TTL" default:"10m" placeholder:"TIME" group:"life" help:"Access token, unless its client has a value of its own. [${default}]"`
	IDTokenTTL     time.Duration `name:"id-token-ttl" env:"GATEHOUSE_ID_TOKEN_TTL" default:"1h" placeholder:"TIME" group:"life" help:"ID token. [${default}]"`
	GrantTTL       time.Duration `name:"grant-ttl" env:"GATEHOUSE_GRANT_TTL" default:"180d" placeholder:"TIME" group:"life" help:"All refresh tokens of one sign-in, counted from that sign-in. [${default}]"`
	ReplayWindow   time.Duration `env:"GATEHOUSE_REPLAY_WINDOW" default:"30s" placeholder:"TIME" group:"life" help:"A refresh token sent again within this time gets the same answer; later it counts as stolen. [${default}]"`
	PARTTL         time.Duration `name:"par-ttl" env:"GATEHOUSE_PAR_TTL" default:"90s" placeholder:"TIME" group:"life" help:"Pushed authorization request, until the person's browser comes with it. [${default}]"`
	InteractionTTL time.Duration `name:"interaction-ttl" env:"GATEHOUSE_INTERACTION_TTL" default:"1h" placeholder:"TIME" group:"life" help:"Time a person has to sign in and consent. [${default}]"`
	SessionIdle    time.Duration `env:"GATEHOUSE_SESSION_IDLE" default:"14d" placeholder:"TIME" group:"life" help:"Session in a browser, unused. [${default}]"`
	SessionMax     time.Duration `env:"GATEHOUSE_SESSION_MAX" default:"90d" placeholder:"TIME" group:"life" help:"Session in a browser, at most. [${default}]"`
	ErasureGrace   time.Duration `env:"GATEHOUSE_ERASURE_GRACE" default:"7d" placeholder:"TIME" group:"life" help:"Account that its person has closed, until it is erased; signing in keeps it. [${default}]"`
	ExportTTL      time.Duration `name:"export-ttl" env:"GATEHOUSE_EXPORT_TTL" default:"24h" placeholder:"TIME" group:"life" help:"File with a person's data, waiting to be fetched. [${default}]"`
	AuditRetention time.Duration `env:"GATEHOUSE_AUDIT_RETENTION" default:"400d" placeholder:"TIME" group:"life" help:"Rows of the audit log; they go by whole months, so up to 31 days later. [${default}]"`
	VerifyTTL      time.Duration `name:"verify-ttl" env:"GATEHOUSE_VERIFY_TTL" default:"24h" placeholder:"TIME" group:"life" help:"Link that confirms an email address. [${default}]"`
	ResetTTL       time.Duration `name:"reset-ttl" env:"GATEHOUSE_RESET_TTL" default:"30m" placeholder:"TIME" group:"life" help:"Link to set a new password. [${default}]"`
	ChangeTTL      time.Duration `name:"change-ttl" env:"GATEHOUSE_CHANGE_TTL" default:"24h" placeholder:"TIME" group:"life" help:"Link that confirms a new email address of an account. [${default}]"`
	InviteTTL      time.Duration `name:"invite-ttl" env:"GATEHOUSE_INVITE_TTL" default:"7d" placeholder:"TIME" group:"life" help:"Invitation, unless it is given a life of its own. [${default}]"`
	MailCodeTTL    time.Duration `name:"mail-code-ttl" env:"GATEHOUSE_MAIL_CODE_TTL" default:"10m" placeholder:"TIME" group:"life" help:"Code to sign in with, sent by mail. [${default}]"`
	KeyRotation    time.Duration `env:"GATEHOUSE_KEY_ROTATION" default:"90d" placeholder:"TIME" group:"life" help:"Signing key in use. [${default}]"`
	JWKSCache      time.Duration `name:"jwks-cache" env:"GATEHOUSE_JWKS_CACHE" default:"1h" placeholder:"TIME" group:"life" help:"How long apps may keep the list of public keys; a new key waits this long before it signs. [${default}]"`

	LimitAccountTries  int           `env:"GATEHOUSE_LIMIT_ACCOUNT_TRIES" default:"10" placeholder:"N" group:"limits" help:"Wrong passwords for one account. [${default}]"`
	LimitAccountWindow time.Duration `env:"GATEHOUSE_LIMIT_ACCOUNT_WINDOW" default:"15m" placeholder:"TIME" group:"limits" help:"… in this time. [${default}]"`
	LimitAddressTries  int           `env:"GATEHOUSE_LIMIT_ADDRESS_TRIES" default:"100" placeholder:"N" group:"limits" help:"Passwords from one address. [${default}]"`
	LimitAddressWindow time.Duration `env:"GATEHOUSE_LIMIT_ADDRESS_WINDOW" default:"15m" placeholder:"TIME" group:"limits" help:"… in this time. [${default}]"`
	LimitNetworkTries  int           `env:"GATEHOUSE_LIMIT_NETWORK_TRIES" default:"400" placeholder:"N" group:"limits" help:"Passwords from one network (IPv4 /24, IPv6 /48) in the same time. [${default}]"`
	LimitRegistrations int           `env:"GATEHOUSE_LIMIT_REGISTRATIONS" default:"30" placeholder:"N" group:"limits" help:"New accounts from one address in an hour; from its network four times as many. [${default}]"`
	LimitCodeTries     int           `env:"GATEHOUSE_LIMIT_CODE_TRIES" default:"5" placeholder:"N" group:"limits" help:"Codes of one person: two-step, recovery and mail codes together. [${default}]"`
	LimitCodeWindow    time.Duration `env:"GATEHOUSE_LIMIT_CODE_WINDOW" default:"5m" placeholder:"TIME" group:"limits" help:"… in this time. [${default}]"`
	LimitPerSecond     int           `env:"GATEHOUSE_LIMIT_PER_SECOND" default:"200" placeholder:"N" group:"limits" help:"Passwords checked each second by all replicas together. [${default}]"`
	LimitBody          int64         `env:"GATEHOUSE_LIMIT_BODY" default:"65536" placeholder:"BYTES" group:"limits" help:"Size of a request body. [${default}]"`

	Logging       logging       `embed:""`
	Certification certification `embed:""`

	Seed       bool   `env:"GATEHOUSE_SEED" group:"try" help:"In an empty database create admin@example.test and demo@example.test with one-time passwords, and the client of the demo app."`
	Demo       bool   `env:"GATEHOUSE_DEMO" group:"try" help:"Run the demo app in this process."`
	DemoListen string `env:"GATEHOUSE_DEMO_LISTEN" default:"127.0.0.1:8081" placeholder:"HOST:PORT" group:"try" help:"Address of the demo app. [${default}]"`
	DemoFile   string `env:"GATEHOUSE_DEMO_FILE" default:"./var/demo.env" placeholder:"PATH" group:"try" help:"File through which the demo app learns its client's secret. [${default}]"`
}

// checked is what settings mean.
type checked struct {
	issuer       *url.URL // nil: see issuerAt
	proxies      []netip.Prefix
	outbound     []netip.Prefix
	trust        *tls.Config // of asking; nil: the system's roots
	certificates oauth.Certificates
	smtp         *mail.SMTPConfig // nil: the local inbox
}

// check finds what is wrong before anything is opened.
func (s *settings) check() (c checked, err error) {
	if err := checkListen("listen", s.Listen); err != nil {
		return c, err
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return c, badSetting("tls-cert", "give --tls-cert and --tls-key both, or neither")
	}
	listenLocal := loopbackListen(s.Listen)
	issuerLocal := listenLocal
	switch {
	case s.Issuer != "":
		if c.issuer, err = parseIssuer(s.Issuer); err != nil {
			return c, err
		}
		issuerLocal = loopback(c.issuer.Hostname())
	case !listenLocal:
		return c, badSetting("issuer", "is needed when --listen is not a loopback address: set it to the https URL at which people reach this server")
	}
	if c.proxies, err = parseNetworks("trusted-proxies", s.TrustedProxies, "trusts everybody to invent addresses: name the proxies"); err != nil {
		return c, err
	}
	if c.outbound, err = parseNetworks("outbound-networks", s.OutboundNetworks, "opens your whole network to what strangers name: name the servers"); err != nil {
		return c, err
	}
	if err := s.Certification.check(s, &c, issuerLocal && listenLocal); err != nil {
		return c, err
	}
	if err := s.MutualTLS.check(s, &c); err != nil {
		return c, err
	}
	switch s.SMTPURL {
	case "inbox":
		// Whoever can open /inbox can take over every account.
		if !issuerLocal {
			return c, badSetting("smtp-url", "the local inbox would show everybody's mail to everybody: give smtp://… or smtps://…")
		}
	case "":
		if !issuerLocal || !listenLocal {
			return c, badSetting("smtp-url", "is needed unless issuer and listen address are both on loopback: give smtp://… or smtps://…")
		}
	default:
		if c.smtp, err = parseSMTP(s.SMTPURL, s.MailFrom); err != nil {
			return c, err
		}
	}
	if s.MailFrom != "" {
		if _, err := netmail.ParseAddress(s.MailFrom); err != nil {
			return c, badSetting("mail-from", `%q is not a sender: give one such as "Example <no-reply@example.com>"`, s.MailFrom)
		}
	}
	if err := s.Storage.check(); err != nil {
		return c, err
	}
	for _, scope := range s.Strangers.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return c, badSetting("stranger-scopes", "%q is not a scope: give a list such as openid,profile,email", scope)
		}
	}
	if name := strings.TrimSpace(s.Name); name != s.Name || name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return c, badSetting("name", "give 1 to 100 printable characters")
	}
	if s.Demo {
		if err := checkListen("demo-listen", s.DemoListen); err != nil {
			return c, err
		}
	}
	return c, s.checkNumbers()
}

func (s *settings) checkNumbers() error {
	const day = 24 * time.Hour
	for _, l := range []struct {
		flag            string
		value, min, max time.Duration
	}{
		{"code-ttl", s.CodeTTL, time.Second, 10 * time.Minute},
		{"access-token-ttl", s.AccessTokenTTL, 10 * time.Second, time.Hour},
		{"id-token-ttl", s.IDTokenTTL, 10 * time.Second, day},
		{"grant-ttl", s.GrantTTL, time.Minute, 3650 * day},
		{"replay-window", s.ReplayWindow, time.Second, 5 * time.Minute},
		{"par-ttl", s.PARTTL, time.Minute, 10 * time.Minute},
		{"interaction-ttl", s.InteractionTTL, time.Minute, day},
		{"session-idle", s.SessionIdle, time.Minute, 3650 * day},
		{"session-max", s.SessionMax, time.Minute, 3650 * day},
		{"export-ttl", s.ExportTTL, time.Minute, 30 * day},
		{"verify-ttl", s.VerifyTTL, time.Minute, 30 * day},
		{"reset-ttl", s.ResetTTL, time.Minute, day},
		{"change-ttl", s.ChangeTTL, time.Minute, 30 * day},
		{"invite-ttl", s.InviteTTL, time.Hour, identity.MaxInvitationLife},
		{"mail-code-ttl", s.MailCodeTTL, time.Minute, time.Hour},
		{"audit-retention", s.AuditRetention, day, 36500 * day},
		{"key-rotation", s.KeyRotation, time.Hour, 3650 * day},
		{"jwks-cache", s.JWKSCache, time.Second, 7 * day},
		{"limit-account-window", s.LimitAccountWindow, time.Second, day},
		{"limit-address-window", s.LimitAddressWindow, time.Second, day},
		{"limit-code-window", s.LimitCodeWindow, time.Second, day},
	} {
		if l.value < l.min || l.value > l.max {
			return badSetting(l.flag, "%s is out of range: choose %s to %s", span(l.value), span(l.min), span(l.max))
		}
	}
	if err := checkErasureGrace("erasure-grace", s.ErasureGrace); err != nil {
		return err
	}
	if s.SessionMax < s.SessionIdle {
		return badSetting("session-max", "%s is shorter than --session-idle %s: make it longer", span(s.SessionMax), span(s.SessionIdle))
	}
	// A key that waits longer to be used than it is used would never catch up.
	if s.KeyRotation < 2*s.JWKSCache {
		return badSetting("key-rotation", "%s is too short: choose at least twice --jwks-cache (%s)", span(s.KeyRotation), span(s.JWKSCache))
	}
	for _, l := range []struct {
		flag            string
		value, min, max int64
	}{
		{"challenge-effort", int64(s.ChallengeEffort), 1000, challenge.MaxEffort},
		{"password-workers", int64(s.PasswordWorkers), 0, 1024},
		{"limit-account-tries", int64(s.LimitAccountTries), 1, 1_000_000},
		{"limit-address-tries", int64(s.LimitAddressTries), 1, 1_000_000},
		{"limit-network-tries", int64(s.LimitNetworkTries), 1, 1_000_000},
		{"limit-registrations", int64(s.LimitRegistrations), 1, 1_000_000},
		{"limit-code-tries", int64(s.LimitCodeTries), 1, 1_000_000},
		{"limit-per-second", int64(s.LimitPerSecond), 1, 1_000_000},
		{"limit-body", s.LimitBody, 4 << 10, 16 << 20},
	} {
		if l.value < l.min || l.value > l.max {
			return badSetting(l.flag, "%d is out of range: choose %d to %d", l.value, l.min, l.max)
		}
	}
	return nil
}

func checkListen(flag, value string) error {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return badSetting(flag, "%q is not HOST:PORT: give an address such as 127.0.0.1:8080", value)
	}
	return nil
}

func loopbackListen(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && loopback(host)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// parseIssuer takes an issuer identifier (RFC 8414 §2). It is compared as a string by every app, so it must be the one
// spelling that browsers use.
func parseIssuer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	bad := func(problem string) (*url.URL, error) { return nil, badSetting("issuer", "%q %s", raw, problem) }
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return bad("is not a URL such as https://id.example.com")
	case u.User != nil:
		return nil, badSetting("issuer", "must not hold a user name: drop it")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return bad("must have neither query nor fragment: drop them (RFC 8414)")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return bad("is http, which only loopback hosts may be: use https")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		return bad("has letters in its host that browsers write otherwise: write it as they do (xn--…)")
	case u.Host != strings.ToLower(u.Host) || !strings.HasPrefix(raw, u.Scheme+"://"+u.Host):
		return bad("has capitals in its host: write it in lower case")
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80", strings.HasSuffix(u.Host, ":"):
		return bad("names the default port: drop it")
	case strings.HasSuffix(u.Path, "/"):
		return bad("ends in a slash: drop it")
	}
	for _, segment := range strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		if u.Path != "" && (segment == "" || segment == "." || segment == "..") || strings.Trim(segment, pathCharacters) != "" {
			return bad("has a path that browsers or proxies may rewrite: use letters, digits, - . _ ~ and single slashes")
		}
	}
	return u, nil
}

const pathCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

// parseNetworks reads addresses and ranges; everything names what is wrong with a range that has no bound.
func parseNetworks(flag string, list []string, everything string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p, err = a.Prefix(a.BitLen())
			}
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return nil, badSetting(flag, "%q is not an address or range: give a list such as 10.0.0.0/8,192.0.2.7", s)
		}
		if p.Bits() == 0 {
			return nil, badSetting(flag, "%q %s", s, everything)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// parseSMTP never repeats the URL in an error: it may hold a password.
func parseSMTP(raw, from string) (*mail.SMTPConfig, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return nil, badSetting("smtp-url", "is not a mail server: give smtp://user:password@host:587 or smtps://user:password@host:465")
	}
	c := &mail.SMTPConfig{Host: u.Hostname(), Username: u.User.Username(), From: from}
	c.Password, _ = u.User.Password()
	if p := u.Port(); p != "" {
		port, err := strconv.ParseUint(p, 10, 16)
		if err != nil || port == 0 {
			return nil, badSetting("smtp-url", "port %s is not between 1 and 65535", p)
		}
		c.Port = int(port)
	}
	query := u.Query()
	tls := query.Get("tls")
	query.Del("tls")
	switch {
	case len(query) > 0:
		return nil, badSetting("smtp-url", "knows only the parameter tls=none")
	case u.Scheme == "smtps" && tls == "":
		c.TLS = "tls"
	case u.Scheme == "smtp" && tls == "":
		c.TLS = "starttls"
	case u.Scheme == "smtp" && tls == "none":
		c.TLS = "none"
	default:
		return nil, badSetting("smtp-url", "is not a mail server: give smtp://…, smtps://… or smtp://…?tls=none")
	}
	if from == "" {
		return nil, badSetting("mail-from", `is needed with --smtp-url: give a sender such as "Example <no-reply@example.com>"`)
	}
	if _, err := mail.NewSMTP(*c); err != nil {
		return nil, badSetting("smtp-url", "%v", err)
	}
	return c, nil
}

// check looks at the spelling only. Errors do not repeat the URLs: they may hold passwords.
func (s *storage) check() error {
	scheme, rest, _ := strings.Cut(s.DatabaseURL, ":")
	u, err := url.Parse(s.DatabaseURL)
	switch {
	case scheme == "sqlite" && rest != "":
	case err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") && u.Host+u.Path+u.RawQuery != "":
	default:
		return badSetting("database-url", "is not a database: give sqlite:PATH or postgres://user:password@host/name")
	}
	if s.RedisURL != "" {
		u, err := url.Parse(s.RedisURL)
		if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Host == "" {
			return badSetting("redis-url", "is not a Redis server: give redis://host:6379/0 or rediss://…")
		}
	}
	if s.MasterKey != "" && s.MasterKeyFile != "" {
		return badSetting("master-key", "and --master-key-file are both set: keep one")
	}
	if s.MasterKey != "" {
		if _, err := parseMasterKeys(s.MasterKey); err != nil {
			return badSetting("master-key", "%v", err)
		}
	}
	return nil
}

// sqlitePath is the database file, or "" for Postgres.
func (s *storage) sqlitePath() string {
	path, _ := strings.CutPrefix(s.DatabaseURL, "sqlite:")
	if path == s.DatabaseURL {
		return ""
	}
	return path
}

// sealer reads the master keys; see MasterKeyFile for when it makes one.
func (s *storage) sealer(ctx context.Context, d *db.DB) (*seal.Sealer, error) {
	text := s.MasterKey
	if text == "" {
		path := s.MasterKeyFile
		if path == "" {
			if d.Engine() == db.Postgres {
				return nil, badSetting("master-key", "is needed with Postgres: set GATEHOUSE_MASTER_KEY to the output of `openssl rand -base64 32` and keep a copy apart from the database")
			}
			path = defaultMasterKeyFile
		}
		var err error
		if text, err = readMasterKeyFile(ctx, d, path); err != nil {
			return nil, err
		}
	}
	masters, err := parseMasterKeys(text)
	if err != nil {
		return nil, badSetting("master-key-file", "%v", err)
	}
	return seal.New(masters...)
}

func readMasterKeyFile(ctx context.Context, d *db.DB, path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// A new key for an old database would make its secrets unreadable and hide that the right key is missing.
		var secrets int
		if err := d.QueryRow(ctx, `SELECT COUNT(*) FROM secrets`).Scan(&secrets); err != nil {
			return "", fmt.Errorf("look for sealed secrets: %w", err)
		}
		if secrets > 0 {
			return "", badSetting("master-key-file", "%s is missing, but the database is sealed with it: restore the file", path)
		}
		if err := makeMasterKeyFile(path); err != nil {
			return "", badSetting("master-key-file", "cannot make %s: %v", path, err)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return "", badSetting("master-key-file", "%v", err)
	}
	if info.Size() > 1<<16 || !info.Mode().IsRegular() {
		return "", badSetting("master-key-file", "%s is not a file with keys: name a file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", badSetting("master-key-file", "%s can be read by others (mode %04o): run `chmod 600 %s`", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", badSetting("master-key-file", "%v", err)
	}
	return string(text), nil
}

// makeMasterKeyFile puts a complete file in place or none; of two processes that start together the first one wins.
func makeMasterKeyFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	key := make([]byte, seal.KeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func parseMasterKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
		key, err := base64.StdEncoding.DecodeString(word)
		if err != nil {
			key, err = base64.RawURLEncoding.DecodeString(word)
		}
		if err != nil || len(key) != seal.KeySize {
			return nil, fmt.Errorf("key %d is not base64 of %d bytes: make one with `openssl rand -base64 %d`", len(keys)+1, seal.KeySize, seal.KeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("holds no key: make one with `openssl rand -base64 %d`", seal.KeySize)
	}
	return keys, nil
}

// decodeDuration is time.ParseDuration and days.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := parseSpan(text)
	if err != nil {
		return fmt.Errorf("%q is not a time: write it like 30s, 10m, 24h or 90d", text)
	}
	target.SetInt(int64(d))
	return nil
}

// parseSpan reads a duration as a setting is written, whole days included.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// span writes a duration as a setting is written: 10m, 24h, 90d.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// unknownVariables finds what was meant as a setting and is none, such as GATEHOUSE_ISSUR.
func unknownVariables(environ []string) []string {
	known := map[string]bool{}
	var read func(t reflect.Type)
	read = func(t reflect.Type) {
		for i := range t.NumField() {
			if f := t.Field(i); f.Type.Kind() == reflect.Struct {
				read(f.Type)
			} else if name := f.Tag.Get("env"); name != "" {
				known[name] = true
			}
		}
	}
	read(reflect.TypeFor[settings]())
	read(reflect.TypeFor[demoSettings]())
	var unknown []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "GATEHOUSE_") && !strings.HasPrefix(name, "GATEHOUSE_TEST_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// loopbackNetworks are this machine as it sees itself.
var loopbackNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
