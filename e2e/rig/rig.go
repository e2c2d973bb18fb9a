// Package rig starts the real gatehouse binary for the end-to-end tests and the benchmark, gives it orders through its
// command line as an operator would, and visits its pages as a browser without JavaScript would. It imports none of
// the server's packages: whatever it needs to know, it knows from outside.
package rig

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Setup says how a server is to run. Dir keeps its state: starting again with the same Setup is a restart.
type Setup struct {
	Binary   string   // path of gatehouse
	Dir      string   // an empty directory, or that of an earlier run
	Database string   // GATEHOUSE_DATABASE_URL; "" for SQLite in Dir
	Redis    string   // GATEHOUSE_REDIS_URL; "" for the in-process cache
	Port     int      // of the loopback address; see FreePort
	Args     []string // further arguments of serve
	Env      []string // further settings, NAME=value

	// With a certificate (files) the server speaks TLS; Roots vouch for it.
	Cert, Key string
	Roots     *x509.CertPool
}

// Server is a running gatehouse.
type Server struct {
	Setup
	Issuer string
	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// Build compiles the binary of the module in root into dir and returns its path. flags are go build's.
func Build(ctx context.Context, root, dir string, flags ...string) (string, error) {
	path := filepath.Join(dir, "gatehouse")
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", path}, flags...), "./cmd/gatehouse")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gatehouse: %w\n%s", err, out)
	}
	return path, nil
}

// FreePort names a loopback port that nobody listens on now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// issuer is a name, since browsers offer no passkeys at an address.
func (s Setup) issuer() string {
	if s.Cert != "" {
		return "https://localhost:" + strconv.Itoa(s.Port)
	}
	return "http://localhost:" + strconv.Itoa(s.Port)
}

// transport asks the server as whoever trusts its certificate.
func (s Setup) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12}
	return t
}

// NewBrowser gives a browser without cookies that trusts the server.
func (s *Server) NewBrowser() *Browser {
	b := NewBrowser(s.Issuer)
	if s.Roots != nil {
		b.client.Transport = s.transport()
	}
	return b
}

// env is the surroundings of every command: settings of the caller's own shell must not leak into a test.
func (s Setup) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GATEHOUSE_") })
	env = append(
		env,
		"GATEHOUSE_ISSUER="+s.issuer(),
		"GATEHOUSE_LISTEN=127.0.0.1:"+strconv.Itoa(s.Port),
		"GATEHOUSE_MASTER_KEY_FILE="+filepath.Join(s.Dir, "master.key"),
		"GATEHOUSE_DATABASE_URL="+cmp.Or(s.Database, "sqlite:"+filepath.Join(s.Dir, "gatehouse.db")),
	)
	if s.Cert != "" {
		env = append(env, "GATEHOUSE_TLS_CERT="+s.Cert, "GATEHOUSE_TLS_KEY="+s.Key)
	}
	if s.Redis != "" {
		env = append(env, "GATEHOUSE_REDIS_URL="+s.Redis)
	}
	return append(env, s.Env...)
}

// Start runs `gatehouse serve` and returns when it answers, or with what it said when it did not.
func Start(ctx context.Context, s Setup) (*Server, error) {
	log, err := os.OpenFile(filepath.Join(s.Dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.Binary, append([]string{"serve"}, s.Args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.env(), log, log
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return nil, err
	}
	server := &Server{Setup: s, Issuer: s.issuer(), cmd: cmd, exited: make(chan struct{}), log: log}
	go func() {
		_ = cmd.Wait()
		close(server.exited)
	}()
	if err := server.await(ctx); err != nil {
		said := server.Log()
		_ = server.Stop()
		return nil, fmt.Errorf("start gatehouse: %w\n%s", err, said)
	}
	return server, nil
}

// await polls closely, because the benchmark takes the cold start from it.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	transport := s.transport()
	transport.DisableKeepAlives = true
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for {
		resp, err := client.Get(s.Issuer + "/.well-known/openid-configuration")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("discovery answers %s", resp.Status)
		}
		select {
		case <-s.exited:
			return errors.New("it ended: " + s.cmd.ProcessState.String())
		case <-ctx.Done():
			return fmt.Errorf("no answer in 30 s: %w", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log is everything the server wrote so far, over all its runs in this directory.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.log.Name())
	return string(b)
}

// Stop asks the server to drain and end, as a service manager would.
func (s *Server) Stop() error {
	defer s.log.Close()
	select {
	case <-s.exited:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return errors.New("the server did not end within 30 s of SIGTERM")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the server ended with code %d after SIGTERM", code)
	}
	return nil
}

// Command runs `gatehouse args… --json` and decodes what it prints into out, which may be nil.
func (s Setup) Command(ctx context.Context, out any, args ...string) error {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Binary, append(args, "--json")...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.env(), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("gatehouse %s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		return fmt.Errorf("gatehouse %s: %w in\n%s", strings.Join(args, " "), err, &stdout)
	}
	return nil
}

// Client is an app as the command line registered it.
type Client struct {
	ID          string
	Secret      string // "" for a public client
	RedirectURI string
}

// NewClient registers an app. args are further options of `client create`.
func (s Setup) NewClient(ctx context.Context, name, redirectURI string, args ...string) (Client, error) {
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	command := []string{"client", "create", "--name", name}
	if redirectURI != "" {
		command = append(command, "--redirect-uri", redirectURI)
	}
	err := s.Command(ctx, &made, append(command, args...)...)
	if err == nil && made.ID == "" {
		err = errors.New("client create printed no client_id")
	}
	return Client{ID: made.ID, Secret: made.Secret, RedirectURI: redirectURI}, err
}

// NewUser creates a person who has the password, and whose address counts as verified.
func (s Setup) NewUser(ctx context.Context, email, password string) (id string, err error) {
	var made struct {
		ID string `json:"id"`
	}
	err = s.Command(ctx, &made, "user", "create", "--email", email, "--password", password, "--verified")
	return made.ID, err
}
