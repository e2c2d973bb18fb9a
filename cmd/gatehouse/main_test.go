package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatehouse": main})
}

// patience bounds every wait for something that happens at once on an idle machine.
const patience = 30 * time.Second

// TestStories runs testdata/*.txtar, each in an empty directory with the binary on its path.
func TestStories(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: setUp, Cmds: verbs})
}

// Those whose commands change what the server holds about people and by whom they sign in are told on the other pair of stores, too.
func TestStoriesOnPostgresAndRedis(t *testing.T) {
	t.Parallel()
	var files []string
	for _, name := range []string{"attribute", "audit", "client", "group", "import", "invite", "privacy", "provider"} {
		files = append(files, filepath.Join("testdata", name+".txtar"))
	}
	key := base64.StdEncoding.EncodeToString(make([]byte, seal.KeySize))
	testscript.Run(t, testscript.Params{Files: files, Cmds: verbs, Setup: func(env *testscript.Env) error {
		env.Setenv("GATEHOUSE_DATABASE_URL", dbtest.PostgresURL(t))
		env.Setenv("GATEHOUSE_REDIS_URL", cachetest.URL(t))
		env.Setenv("GATEHOUSE_MASTER_KEY", key)
		return setUp(env)
	}})
}

func setUp(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Values["server"] = &story{}
	return nil
}

var verbs = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"serve":    storyServe,
	"stop":     storyStop,
	"get":      storyGet,
	"capture":  storyCapture,
	"lines":    storyLines,
	"mode":     storyMode,
	"two-step": storyTwoStep,
	"acts":     storyActs,
}

// story is the server of one script.
type story struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	url    string
}

// storyServe starts `gatehouse serve` on a free port with further arguments, waits until it is ready, puts what it
// printed into serve.json and sets $URL and $DEMO.
func storyServe(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("server").(*story)
	out, err := os.Create(ts.MkAbs("serve.json"))
	ts.Check(err)
	defer out.Close()
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "gatehouse"))
	ts.Check(err)
	s.cmd = exec.Command(path, append([]string{"serve", "--json", "--listen", "127.0.0.1:0"}, args...)...)
	s.cmd.Dir = ts.MkAbs(".")
	s.cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "HOME="+ts.Getenv("HOME"))
	for _, name := range []string{"GATEHOUSE_DATABASE_URL", "GATEHOUSE_REDIS_URL", "GATEHOUSE_MASTER_KEY"} {
		if v := ts.Getenv(name); v != "" {
			s.cmd.Env = append(s.cmd.Env, name+"="+v)
		}
	}
	stdout, err := s.cmd.StdoutPipe()
	ts.Check(err)
	s.stderr.Reset()
	s.cmd.Stderr = &s.stderr
	ts.Check(s.cmd.Start())
	ts.Defer(func() { _ = s.cmd.Process.Kill() })
	var report startReport
	if err := json.NewDecoder(io.TeeReader(stdout, out)).Decode(&report); err != nil {
		_ = s.cmd.Wait()
		ts.Fatalf("serve said nothing: %v\n%s", err, &s.stderr)
	}
	s.url = report.Issuer
	ts.Setenv("URL", report.Issuer)
	ts.Setenv("DEMO", report.Demo)
}

// storyStop sends SIGTERM and expects a clean end; the log is in serve.log then.
func storyStop(ts *testscript.TestScript, _ bool, _ []string) {
	s := ts.Value("server").(*story)
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	err := s.cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("serve.log"), s.stderr.Bytes(), 0o600))
	if err != nil {
		ts.Fatalf("serve ended with %v\n%s", err, &s.stderr)
	}
}

// storyGet is `get STATUS URL`; the body goes to the file body.
func storyGet(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: get STATUS URL")
	}
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(args[1])
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("body"), body, 0o600))
	if got := strconv.Itoa(res.StatusCode); got != args[0] {
		ts.Fatalf("GET %s: status %s, want %s\n%s", args[1], got, args[0], body)
	}
}

// storyCapture is `capture NAME FILE REGEXP`: the first group goes into $NAME. FILE may be stdout.
func storyCapture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: capture NAME FILE REGEXP")
	}
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		ts.Fatalf("%s does not match %s:\n%s", args[1], args[2], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], m[1])
}

// storyLines is `lines N FILE`.
func storyLines(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(strings.Count(ts.ReadFile(args[1]), "\n")); got != args[0] {
		ts.Fatalf("%s has %s lines, want %s:\n%s", args[1], got, args[0], ts.ReadFile(args[1]))
	}
}

// storyMode is `mode OCTAL FILE…`.
func storyMode(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("mode of %s is %s, want %s", name, got, args[0])
		}
	}
}

// storyTwoStep is `two-step EMAIL`: the person turns two-step sign-in on.
func storyTwoStep(ts *testscript.TestScript, _ bool, args []string) {
	storyData(ts, func(ctx context.Context, d *data) error {
		people, err := openPeople(ctx, d)
		if err != nil {
			return err
		}
		u, err := people.UserByEmail(ctx, args[0])
		if err != nil {
			return err
		}
		e, err := people.BeginTOTP(ctx, u.ID, "Test")
		if err != nil {
			return err
		}
		code, err := totp.GenerateCode(e.Secret, time.Now())
		if err != nil {
			return err
		}
		_, s, err := people.StartSession(ctx, u.ID, []string{identity.AMRPassword}, identity.Device{}, "", time.Time{})
		if err != nil {
			return err
		}
		if _, err = people.ConfirmTOTP(ctx, s, code); err != nil {
			return err
		}
		return people.EndSession(ctx, u.ID, s.ID)
	})
}

// storyActs is `acts ACTION ACTOR`: the audit log must hold such a row.
func storyActs(ts *testscript.TestScript, _ bool, args []string) {
	storyData(ts, func(ctx context.Context, d *data) error {
		var n int
		err := d.db.QueryRow(ctx, `SELECT COUNT(*) FROM audit WHERE action = $1 AND actor = $2`, args[0], args[1]).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("the audit log has no %s by %s", args[0], args[1])
		}
		return err
	})
}

// storyData opens the story's database beside whatever else uses it.
func storyData(ts *testscript.TestScript, f func(ctx context.Context, d *data) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	t := &terminal{ctx: ctx, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	s := &storage{DatabaseURL: ts.Getenv("GATEHOUSE_DATABASE_URL"), MasterKey: ts.Getenv("GATEHOUSE_MASTER_KEY")}
	if s.DatabaseURL == "" {
		s = &storage{DatabaseURL: "sqlite:" + ts.MkAbs("var/gatehouse.db"), MasterKeyFile: ts.MkAbs("var/master.key")}
	}
	ts.Check(withData(t, s, func(d *data) error { return f(ctx, d) }))
}

// server is a `serve` inside the test.
type server struct {
	startReport
	stop func() int // cancels as SIGTERM does, and gives the exit code

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// Log is what the server wrote to standard error so far.
func (s *server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// start runs `serve` on a free port in a directory of its own.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	dir := t.TempDir()
	args = append([]string{
		"serve", "--json", "--listen", "127.0.0.1:0", "--demo-listen", "127.0.0.1:0", "--database-url", "sqlite:" + filepath.Join(dir, "test.db"),
		"--master-key-file", filepath.Join(dir, "master.key"), "--demo-file", filepath.Join(dir, "demo.env"),
	}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	stdout, out := io.Pipe()
	s := &server{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, args, func(string) string { return "" }, strings.NewReader(""), out, s)
		_ = out.CloseWithError(errors.New("serve ended"))
	}()
	if err := json.NewDecoder(stdout).Decode(&s.startReport); err != nil {
		cancel()
		t.Fatalf("serve: %v\n%s", err, s.Log())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }() // whoever writes to a pipe waits for its reader
	s.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() {
		if code := s.stop(); code != exitOK {
			t.Errorf("serve ended with code %d\n%s", code, s.Log())
		}
	})
	return s
}
