package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/geo"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
	"github.com/gatehouse-id/gatehouse/migrations"
	"github.com/gatehouse-id/gatehouse/oauth"
	"github.com/gatehouse-id/gatehouse/ui"
)

const (
	// eraseEvery is well below the least grace period; a server that is often restarted gets round to it too.
	eraseEvery = 10 * time.Minute
	// inviteEvery is how long an invitation made by a command waits for its mail.
	inviteEvery = 5 * time.Second
	// drainTime bounds how long a stopping server waits for requests and mails under way.
	drainTime = 20 * time.Second
	// openTime bounds how long a start waits for database and cache.
	openTime = 30 * time.Second
	// collectAt is GOGC: what lives is a few megabytes, so at Go's default of 100 the collector would run dozens of times a
	// second under load and take a third of the machine.
	collectAt = 400
	// spareMemory in bytes is what the process may hold without using it before it gives memory back to the system.
	spareMemory = 16 << 20
)

type serveCommand struct {
	Settings settings `embed:""`
}

// Run is all the wiring of the server, from top to bottom.
func (c *serveCommand) Run(t *terminal) error {
	s := &c.Settings
	meaning, err := s.check()
	if err != nil {
		return err
	}
	places, err := openPlaces(s.Places)
	if err != nil {
		return err
	}
	if s.Demo && !s.Seed {
		if _, err := os.Stat(s.DemoFile); err != nil {
			return badSetting("demo-file", "%v: add --seed, which writes it", err)
		}
	}
	log := s.Logging.logger(t.stderr)
	if os.Getenv("GOGC") == "" { // the runtime's own variable wins
		debug.SetGCPercent(collectAt)
	}

	certificate, err := openCertificate(s.TLSCert, s.TLSKey, log)
	if err != nil {
		return err
	}
	listener, err := listen(t.ctx, "listen", s.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	issuer := meaning.issuer
	if issuer == nil {
		issuer = issuerAt(listener.Addr().String(), certificate != nil)
	}
	site := web.NewSite(issuer)
	if s.SessionManagement {
		site = site.Watching()
	}
	var withCertificates net.Listener
	if s.MutualTLS.Listen != "" {
		if withCertificates, err = listen(t.ctx, "mtls-listen", s.MutualTLS.Listen); err != nil {
			return err
		}
		defer withCertificates.Close()
		if meaning.certificates.URL == "" {
			meaning.certificates.URL = s.MutualTLS.beside(issuer, withCertificates)
		}
	}

	data, err := openData(t.ctx, &s.Storage, log)
	if err != nil {
		return err
	}
	defer data.close()
	if data.cache = s.Certification.limits(data.cache); s.Certification.Mode != "off" {
		log.Warn("certification: limits are off and loopback is open; nobody but testers may reach this server")
	}
	if names := unknownVariables(os.Environ()); len(names) > 0 {
		log.Warn("variables that are no settings (see gatehouse serve --help)", "names", strings.Join(names, " "))
	}
	if data.db.Engine() == db.Postgres && s.Storage.RedisURL == "" {
		log.Warn("no GATEHOUSE_REDIS_URL: only one replica may run on this database")
	}

	inbox, mailer := (*mail.Inbox)(nil), mail.Mailer(nil)
	if meaning.smtp != nil {
		if mailer, err = mail.NewSMTP(*meaning.smtp); err != nil {
			return err
		}
	} else {
		inbox = mail.NewInbox(log)
		mailer = inbox
	}
	queue := mail.NewQueue(mailer, log)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := queue.Close(ctx); err != nil {
			log.Error("mails lost", "err", err)
		}
	}()

	ring, err := openRing(t.ctx, data, s)
	if err != nil {
		return err
	}
	defer ring.Close()
	revocations := oauth.OpenRevocations(data.db, nil)
	refreshKey, err := data.seal.Secret(t.ctx, data.db, "refresh-token")
	if err != nil {
		return err
	}
	grants := oauth.OpenGrants(oauth.GrantsConfig{
		DB: data.db, Audit: data.audit, Revocations: revocations, Key: refreshKey, ReplayWindow: s.ReplayWindow,
	})
	if (s.Demo || s.Seed) && loopback(issuer.Hostname()) { // the demo app is on this machine
		meaning.outbound = append(meaning.outbound, loopbackNetworks...)
	}
	asks := outbound.New(outbound.Config{Networks: meaning.outbound, TLS: meaning.trust})
	clients, err := oauth.OpenClients(t.ctx, oauth.ClientsConfig{DB: data.db, Seal: data.seal, Audit: data.audit, Outbound: asks})
	if err != nil {
		return err
	}
	outbox := oauth.OpenOutbox(oauth.OutboxConfig{
		DB: data.db, Audit: data.audit, Log: log, Seal: data.seal, Clients: clients, Grants: grants, Site: site, Keys: ring, Ask: asks,
	})
	data.audit.Tell(outbox.Heard)
	people, err := identity.New(t.ctx, identity.Config{
		DB: data.db, Cache: data.cache, Seal: data.seal, Audit: data.audit, Log: log, Revoke: outbox.EndUser, RevokeDevices: outbox.EndDevices,
		SessionIdle: s.SessionIdle, SessionMax: s.SessionMax, PasswordWorkers: s.PasswordWorkers,
		ErasureGrace: s.ErasureGrace, ExportLife: s.ExportTTL, Origin: site.Origin(), Name: s.Name,
		LinkLife: identity.LinkLife{Verify: s.VerifyTTL, Reset: s.ResetTTL, Change: s.ChangeTTL, Invite: s.InviteTTL, Code: s.MailCodeTTL},
		Limits: identity.Limits{
			AccountTries: s.LimitAccountTries, AccountWindow: s.LimitAccountWindow,
			AddressTries: s.LimitAddressTries, AddressWindow: s.LimitAddressWindow, NetworkTries: s.LimitNetworkTries,
			OverallPerSecond: s.LimitPerSecond,
			CodeTries:        s.LimitCodeTries, CodeWindow: s.LimitCodeWindow,
		},
	})
	if err != nil {
		return err
	}
	tree, err := audit.OpenTree(t.ctx, audit.TreeConfig{DB: data.db, Seal: data.seal, Log: log, Retention: s.AuditRetention})
	if err != nil {
		return err
	}
	if s.SignInPolicy == "phr" && !people.PasskeysPossible() {
		return badSetting("sign-in-policy", "nobody could sign in: passkeys need an issuer with a domain name and https, or http://localhost; %s is none", site.Origin())
	}
	consents := consent.New(data.db, data.audit, nil)
	protocol, err := oauth.New(oauth.Config{
		Site: site, DB: data.db, Cache: data.cache, Seal: data.seal, Keys: ring, People: people, Consents: consents,
		Clients: clients, Outbox: outbox, Grants: grants, Revocations: revocations, RefreshKey: refreshKey, Audit: data.audit, Log: log,
		CodeTTL: s.CodeTTL, AccessTokenTTL: s.AccessTokenTTL, IDTokenTTL: s.IDTokenTTL, GrantTTL: s.GrantTTL,
		InteractionTTL: s.InteractionTTL, RequireVerifiedEmail: s.RequireVerifiedEmail, SignInPolicy: policyACR(s.SignInPolicy),
		Outbound: asks, Certificates: meaning.certificates, SelfRegistered: s.Strangers.meaning(s.Certification.Mode != "off"),
		RequireDPoPNonce: s.RequireDPoPNonce, RequirePAR: s.RequirePAR, PushedTTL: s.PARTTL, LegacyResponseTypes: s.LegacyResponseTypes,
	})
	if err != nil {
		return err
	}
	providers, err := upstream.OpenProviders(t.ctx, data.db, data.seal, data.audit, nil)
	if err != nil {
		return err
	}
	trips, err := upstream.New(upstream.Config{
		Providers: providers, Cache: data.cache, Client: asks, Callback: func(id string) string { return site.URL("/login/" + id + "/callback") },
	})
	if err != nil {
		return err
	}
	guard, err := openChallenge(t.ctx, data, s)
	if err != nil {
		return err
	}
	pages, err := ui.New(ui.Config{
		Places:   places,
		Upstream: trips,
		Site:     site, People: people, OAuth: protocol, Mail: queue, Inbox: inbox, Cache: data.cache, Audit: data.audit, Log: log,
		Name: s.Name, Registration: s.Registration == "open", RegistrationsPerHour: s.LimitRegistrations,
		Invitations: s.Registration != "off", MailCodes: s.MailCodes, Challenge: guard, ChallengeAlways: s.Challenge == "always", RequireVerifiedEmail: s.RequireVerifiedEmail,
		SignInPolicy: policyACR(s.SignInPolicy),
	})
	if err != nil {
		return err
	}
	protocol.SetErrorPage(pages.OAuthError)
	protocol.SetAsked(pages.MailRequest)

	mux := http.NewServeMux()
	web.Mount(mux, site, protocol.Routes(), protocol.Error)
	web.Mount(mux, site, pages.Routes(), pages.Error)
	health := &health{data: data}
	root := http.NewServeMux() // probes stay out of the access log
	root.HandleFunc("GET /healthz", health.alive)
	root.HandleFunc("GET /readyz", health.ready)
	root.Handle("/", web.Wrap(mux, web.Options{Log: log, TrustedProxies: meaning.proxies, MaxBody: s.LimitBody, Secure: site.Secure()}))

	server := newHTTPServer(root, log)
	defer server.Close() // when something below fails; a drained server is closed already
	background := newBackground(log)
	defer background.stop()
	failed := make(chan error, 3)
	go func() { failed <- serveHTTP(server, listener, certificate) }()
	if withCertificates != nil {
		go func() { failed <- serveMutualTLS(server, withCertificates, certificate) }()
	}

	background.every(time.Minute, "maintain signing keys", ring.Maintain)
	background.every(time.Second, "poll clients", clients.Poll)
	background.every(time.Second, "poll attributes", people.PollAttributes)
	background.every(time.Second, "poll providers", providers.Poll)
	background.every(time.Minute, "end sessions of disabled providers", endSessionsOfDisabled(providers, people))
	background.every(time.Second, "poll revocations", grants.Poll)
	background.every(time.Second, "deliver to apps", outbox.Deliver)
	background.every(time.Minute, "return memory", returnMemory)
	background.every(10*time.Second, "chain audit log", tree.Append)
	background.once("maintain audit log", tree.Maintain)
	background.every(time.Hour, "maintain audit log", tree.Maintain)
	background.every(inviteEvery, "send invitations", pages.SendInvitations)
	background.every(time.Minute, "tend privacy", pages.TendPrivacy)
	background.every(eraseEvery, "erase people", pages.EraseDue)
	background.every(time.Hour, "purge", func(ctx context.Context) error {
		return errors.Join(people.Purge(ctx), grants.Purge(ctx), outbox.Purge(ctx), clients.Purge(ctx), protocol.Requests().Purge(ctx))
	})

	started := startReport{Issuer: site.Issuer(), Listen: listener.Addr().String()}
	if inbox != nil {
		started.Inbox = site.URL("/inbox")
	}
	if s.Seed {
		if started.Accounts, err = seed(t.ctx, people, clients, s, site); err != nil {
			return err
		}
		started.Seeded = true
	}
	if s.Demo {
		app, err := startDemo(t.ctx, "demo-", demoSettings{Listen: s.DemoListen, File: s.DemoFile, Issuer: site.Issuer()}, log)
		if err != nil {
			return err
		}
		defer app.stop()
		go func() { failed <- app.serve() }()
		started.Demo = app.url
	}
	if err := t.print(started, started.write); err != nil {
		return err
	}
	log.Info("ready", "issuer", site.Issuer(), "listen", listener.Addr().String(), "database", data.db.Engine(), "redis", s.Storage.RedisURL != "")
	// Starting hashed passwords and parsed templates; that memory is not needed again.
	debug.FreeOSMemory()

	select {
	case err := <-failed:
		return err
	case <-t.ctx.Done():
	}
	log.Info("draining")
	health.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.Error("requests cut off", "err", err)
		_ = server.Close()
	}
	pages.Wait()
	background.stop()
	outbox.Wait()
	if err := tree.Append(ctx); err != nil {
		log.Error("audit log not chained to its end", "err", err)
	}
	return nil
}

// issuerAt is the issuer of a server that was told none: where it listens, under the name that machines have for themselves, for at an
// address browsers offer no passkeys.
func issuerAt(listen string, secure bool) *url.URL {
	u := &url.URL{Scheme: "http", Host: listen}
	if secure {
		u.Scheme = "https"
	}
	if at, err := netip.ParseAddrPort(listen); err == nil && (at.Addr() == netip.MustParseAddr("127.0.0.1") || at.Addr() == netip.IPv6Loopback()) {
		u.Host = net.JoinHostPort("localhost", strconv.Itoa(int(at.Port())))
	}
	return u
}

// returnMemory gives back what a burst has left: a password hash alone takes 19 MiB for a moment, and the runtime is slow
// to part with them.
func returnMemory(context.Context) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapIdle-m.HeapReleased > spareMemory {
		debug.FreeOSMemory()
	}
	return nil
}

// data is what every command that touches data works with.
type data struct {
	db    *db.DB
	cache cache.Cache
	seal  *seal.Sealer
	audit *audit.Log
	log   *slog.Logger
}

// openData opens database and cache, migrates, and takes the master key.
func openData(ctx context.Context, s *storage, log *slog.Logger) (*data, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	d, applied, err := openDatabase(ctx, s)
	if err != nil {
		return nil, err
	}
	out := &data{db: d, log: log}
	if out.seal, err = s.sealer(ctx, d); err != nil {
		_ = d.Close()
		return nil, err
	}
	if out.audit, err = audit.Open(ctx, d, out.seal, log, nil); err != nil {
		_ = d.Close()
		return nil, err
	}
	// Now rather than in the middle of a request.
	if _, err = out.seal.Secret(ctx, d, "refresh-token"); err != nil {
		_ = d.Close()
		if !errors.Is(err, seal.ErrOpen) {
			return nil, err
		}
		flag := "master-key"
		if s.MasterKey == "" {
			flag = "master-key-file"
		}
		return nil, badSetting(flag, "is not the master key that this database was sealed with: restore that one")
	}
	if s.RedisURL == "" {
		out.cache = cache.NewMemory(nil)
	} else if out.cache, err = cache.OpenRedis(ctx, s.RedisURL); err != nil {
		_ = d.Close()
		return nil, badSetting("redis-url", "%v: start Redis or correct the URL", err)
	}
	for _, name := range applied { // not before: a bad setting leaves one line and no more
		log.Info("migrated", "step", name)
	}
	return out, nil
}

func openDatabase(ctx context.Context, s *storage) (*db.DB, []string, error) {
	if path := s.sqlitePath(); path != "" {
		if err := touchPrivate(path); err != nil {
			return nil, nil, badSetting("database-url", "cannot make the database file: %v", err)
		}
	}
	d, err := db.Open(ctx, s.DatabaseURL)
	if err != nil {
		return nil, nil, badSetting("database-url", "%v: start the database or correct the URL", err)
	}
	applied, err := migrations.Apply(ctx, d.Engine(), d.SQL())
	if err != nil {
		_ = d.Close()
		return nil, nil, err
	}
	return d, applied, nil
}

// touchPrivate makes the file before SQLite does, which would let everybody on the machine read it. Its companions
// (-wal, -shm) take over its mode.
func touchPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (d *data) close() {
	if err := errors.Join(d.cache.Close(), d.db.Close()); err != nil {
		d.log.Error("close storage", "err", err)
	}
}

// openChallenge is what forms ask of browsers.
func openChallenge(ctx context.Context, d *data, s *settings) (challenge.Guard, error) {
	if s.Challenge == "off" {
		return challenge.None{}, nil
	}
	key, err := d.seal.Secret(ctx, d.db, "challenge")
	if err != nil {
		return nil, err
	}
	work := &challenge.Work{Key: key, Cache: d.cache, Effort: s.ChallengeEffort}
	return work, work.Validate()
}

func openRing(ctx context.Context, d *data, s *settings) (*keys.Ring, error) {
	return keys.Open(ctx, keys.Config{
		DB: d.db, Seal: d.seal, Log: d.log, Audit: d.audit, Rotation: s.KeyRotation, CachePeriod: s.JWKSCache, TokenLife: max(s.IDTokenTTL, oauth.MaxAccessTokenTTL),
	})
}

// openPlaces reads the table of places, if there is one.
func openPlaces(path string) (*geo.Table, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // a nil Table knows no place
	}
	t, err := geo.Open(path)
	if err != nil {
		return nil, badSetting("places", "%v: give a file as docs/operating.md describes it", err)
	}
	return t, nil
}

func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, badSetting(flag, "%v: stop the other program or choose another address", err)
	}
	return l, nil
}

func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serveHTTP answers requests until the server is shut down, which is no error.
func serveHTTP(server *http.Server, l net.Listener, c *certificate) error {
	if c != nil {
		l = tls.NewListener(l, c.config())
	}
	return serveListener(server, l)
}

func serveListener(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// health answers the probes of a process supervisor or load balancer.
type health struct {
	data     *data
	draining atomic.Bool
}

func (h *health) alive(w http.ResponseWriter, _ *http.Request) { writeHealth(w, "ok") }

func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	switch {
	case h.draining.Load():
		writeHealth(w, "draining")
	case h.data.db.Ping(ctx) != nil:
		writeHealth(w, "database unavailable")
	case h.data.cache.Ping(ctx) != nil:
		writeHealth(w, "cache unavailable")
	default:
		writeHealth(w, "ok")
	}
}

func writeHealth(w http.ResponseWriter, status string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status != "ok" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"status": status})
}

// background runs what the server does by itself.
type background struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

func newBackground(log *slog.Logger) *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{log: log, ctx: ctx, cancel: cancel}
}

// every runs f each interval. Of failures in a row the first is logged, and then the success that ends them.
func (b *background) every(interval time.Duration, task string, f func(ctx context.Context) error) {
	b.tasks.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		failing := false
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-ticker.C:
			}
			err := f(b.ctx)
			switch {
			case b.ctx.Err() != nil:
				return
			case err != nil && !failing:
				b.log.Error("background task failed", "task", task, "err", err)
			case err == nil && failing:
				b.log.Info("background task works again", "task", task)
			}
			failing = err != nil
		}
	})
}

// once runs f now, beside what follows.
func (b *background) once(task string, f func(ctx context.Context) error) {
	b.tasks.Go(func() {
		if err := f(b.ctx); err != nil && b.ctx.Err() == nil {
			b.log.Error("background task failed", "task", task, "err", err)
		}
	})
}

func (b *background) stop() {
	b.cancel()
	b.tasks.Wait()
}

// startReport is what serve prints once it is ready.
type startReport struct {
	Issuer   string           `json:"issuer"`
	Listen   string           `json:"listen"`
	Demo     string           `json:"demo,omitempty"`
	Inbox    string           `json:"inbox,omitempty"`
	Accounts []oneTimeAccount `json:"accounts,omitempty"`
	Seeded   bool             `json:"-"`
}

func (s startReport) write(w io.Writer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("")
	line("  Gatehouse is ready.")
	line("")
	line("    Sign-in server\t%s", s.Issuer)
	if s.Demo != "" {
		line("    Demo app\t%s", s.Demo)
	}
	if s.Inbox != "" {
		line("    Mails it sends\t%s", s.Inbox)
	}
	line("")
	switch {
	case len(s.Accounts) > 0:
		line("  First start: these accounts are new. Each password is shown this once and is changed at")
		line("  the first sign-in.")
		line("")
		for _, a := range s.Accounts {
			line("    %s\t%s", a.Email, a.Password)
		}
		line("")
	case s.Seeded:
		line("  Sign in with the passwords printed at the first start. Lost one?")
		line("  %s user reset-password %s", os.Args[0], demoPerson)
		line("")
	}
}
