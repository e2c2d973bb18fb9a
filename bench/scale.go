package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

const (
	fewPeople = 100 // an empty server has nobody to sign in
	samples   = 64  // people whose pages are asked for, drawn from all
	maxSlower = 1.3 // what a million people may cost
)

// scaled is one case on two servers that differ in the number of people.
type scaled struct {
	Name  string   `json:"name"`
	Few   []result `json:"few"`
	Many  []result `json:"many"`
	Ratio float64  `json:"ratio"` // of the times: the median of the rounds
}

// scaling is what runScale found on one pair of stores.
type scaling struct {
	Name   string        `json:"name"`
	People int           `json:"people"`
	Load   time.Duration `json:"load_ns"` // what bench load took
	Cases  []*scaled     `json:"cases"`
}

// populated is a running server with people.
type populated struct {
	server   *rig.Server
	people   int
	load     time.Duration
	password string
	app      *fixture
	cookies  []string
}

// runScale compares a server with a hundred people and one with o.people, side by side in the same run.
func runScale(ctx context.Context, o options, binary string, out io.Writer) error {
	var found []*scaling
	for _, v := range []struct{ name, stores, database, redis string }{
		{"sqlite", "SQLite, in-process cache", "", ""},
		{"postgres", "Postgres, Redis", os.Getenv("GATEHOUSE_TEST_POSTGRES"), os.Getenv("GATEHOUSE_TEST_REDIS")},
	} {
		if o.only != "" && o.only != v.name {
			continue
		}
		if v.name == "postgres" && (v.database == "" || v.redis == "") {
			return errors.New("GATEHOUSE_TEST_POSTGRES and GATEHOUSE_TEST_REDIS are not set: run make bench-scale, or -only sqlite")
		}
		s, err := scaleVariant(ctx, o, v.name, rig.Setup{Binary: binary, Database: v.database, Redis: v.redis})
		if err != nil {
			return fmt.Errorf("%s: %w", v.stores, err)
		}
		s.Name = v.stores
		found = append(found, s)
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(found)
	}
	slow := 0
	for _, s := range found {
		slow += s.print(out)
	}
	if o.check && slow > 0 {
		return fmt.Errorf("%d cases are slower than %.1f times", slow, maxSlower)
	}
	return nil
}

func scaleVariant(ctx context.Context, o options, name string, setup rig.Setup) (*scaling, error) {
	dir, err := os.MkdirTemp("", "gatehouse-scale-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	few, err := populate(ctx, setup, filepath.Join(dir, name), "gatehouse_few", fewPeople)
	if err != nil {
		return nil, err
	}
	defer func() { _ = few.server.Stop() }()
	kept := o.keep
	if kept == "" {
		kept = filepath.Join(dir, "many")
	}
	many, err := populate(ctx, setup, filepath.Join(kept, name), "gatehouse_many", o.people)
	if err != nil {
		return nil, err
	}
	defer func() { _ = many.server.Stop() }()
	s := &scaling{People: many.people, Load: many.load}
	fewCases, manyCases := few.cases(), many.cases()
	for _, c := range fewCases {
		s.Cases = append(s.Cases, &scaled{Name: c.name})
	}
	for range o.rounds {
		for i, c := range s.Cases {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			a, err := measure(strings.TrimPrefix(few.server.Issuer, "http://"), fewCases[i], o.load)
			if err != nil {
				return nil, fmt.Errorf("few people: %w", err)
			}
			b, err := measure(strings.TrimPrefix(many.server.Issuer, "http://"), manyCases[i], o.load)
			if err != nil {
				return nil, fmt.Errorf("many people: %w", err)
			}
			c.Few, c.Many = append(c.Few, a), append(c.Many, b)
		}
	}
	for _, c := range s.Cases {
		var ratios []float64
		for i := range c.Few {
			ratios = append(ratios, c.Few[i].PerSecond/c.Many[i].PerSecond)
		}
		c.Ratio = median(ratios)
	}
	return s, nil
}

// populate starts a server on a database with people, which it makes unless an earlier run has left it in dir.
func populate(ctx context.Context, s rig.Setup, dir, database string, people int) (*populated, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s.Dir = dir
	kept := filepath.Join(dir, "load.json")
	raw, err := os.ReadFile(kept)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return nil, err
	}
	if s.Database != "" {
		if s.Database, err = ownDatabase(ctx, s.Database, database, fresh); err != nil {
			return nil, err
		}
	}
	if s.Port, err = rig.FreePort(); err != nil {
		return nil, err
	}
	s.Env = []string{
		"GATEHOUSE_TRUSTED_PROXIES=127.0.0.0/8,::1/128",
		"GATEHOUSE_LIMIT_ADDRESS_TRIES=1000000", "GATEHOUSE_LIMIT_NETWORK_TRIES=1000000", "GATEHOUSE_LIMIT_PER_SECOND=10000",
		"GATEHOUSE_LIMIT_ACCOUNT_TRIES=1000000",
	}
	if fresh {
		if err := s.Command(ctx, nil, "migrate"); err != nil {
			return nil, err
		}
		var report json.RawMessage
		if err := s.Command(ctx, &report, "bench", "load", "--people", fmt.Sprint(people)); err != nil {
			return nil, err
		}
		if raw = report; os.WriteFile(kept, raw, 0o600) != nil {
			return nil, fmt.Errorf("write %s", kept)
		}
	}
	var report struct {
		People   int     `json:"people"`
		Password string  `json:"password"`
		Seconds  float64 `json:"seconds"`
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		return nil, err
	}
	p := &populated{people: report.People, password: report.Password, load: time.Duration(report.Seconds * float64(time.Second))}
	if p.server, err = rig.Start(ctx, s); err != nil {
		return nil, err
	}
	if err := p.furnish(ctx); err != nil {
		return nil, errors.Join(err, p.server.Stop())
	}
	return p, nil
}

// ownDatabase names a database beside the one of the URL, empty if it is to be fresh.
func ownDatabase(ctx context.Context, base, name string, fresh bool) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	if fresh {
		d, err := db.Open(ctx, base)
		if err != nil {
			return "", err
		}
		defer d.Close()
		for _, statement := range []string{"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)", "CREATE DATABASE " + name} {
			if _, err := d.Exec(ctx, statement); err != nil {
				return "", err
			}
		}
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (p *populated) email() string {
	return fmt.Sprintf("person%d@load.example", 1+rand.IntN(p.people))
}

// furnish registers an app and signs some people in, drawn from all.
func (p *populated) furnish(ctx context.Context) error {
	app, err := p.server.NewClient(ctx, "Bench", redirectURI, "--grant-type", "authorization_code", "--grant-type", "refresh_token",
		"--id-token-alg", "ES256", "--first-party")
	if err != nil {
		return err
	}
	p.app = &fixture{
		basic:     "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":"+app.Secret)) + "\r\n",
		authorize: authorizePath(app.ID, "openid"), offline: authorizePath(app.ID, "openid offline_access"),
	}
	for range samples {
		browser := p.browser()
		if err := p.signIn(browser); err != nil {
			return err
		}
		var pairs []string
		for _, c := range browser.Cookies() {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
		p.cookies = append(p.cookies, "Cookie: "+strings.Join(pairs, "; ")+"\r\n")
	}
	return nil
}

// browser is somebody's, somewhere: one network may not do so much (198.18.0.0/15 is for benchmarks, RFC 2544).
func (p *populated) browser() *rig.Browser {
	b := rig.NewBrowser(p.server.Issuer)
	b.From = fmt.Sprintf("198.%d.%d.%d", 18+rand.IntN(2), rand.IntN(256), 1+rand.IntN(254))
	return b
}

// signIn is the whole way of somebody, from the app's request to its code.
func (p *populated) signIn(browser *rig.Browser) error {
	page, err := browser.SignIn(p.app.authorize, p.email(), p.password)
	if err != nil {
		return err
	}
	if answer := page.URL.Query(); answer.Get("code") == "" {
		return fmt.Errorf("sent back without a code: %s", answer.Get("error"))
	}
	return nil
}

func (p *populated) cases() []testCase {
	list := []testCase{
		{name: "sign-in", prepare: same(func(*conn) error { return p.signIn(p.browser()) })},
		{name: "refresh", prepare: func(c *conn) (operation, error) {
			f := *p.app
			f.cookies = p.cookies[rand.IntN(samples)]
			return f.refresh(c)
		}},
	}
	var turn atomic.Int64
	for _, path := range []string{"/account", "/account/apps", "/account/sessions", "/account/activity"} {
		list = append(list, testCase{name: path, prepare: same(func(c *conn) error {
			if err := c.get(path, p.cookies[turn.Add(1)%samples]); err != nil {
				return err
			}
			return c.want(200)
		})})
	}
	return list
}

// print writes a table and returns how many cases are too slow.
func (s *scaling) print(out io.Writer) (slow int) {
	fmt.Fprintf(out, "\n%s: %d people beside %d (loaded in %s)\n", s.Name, s.People, fewPeople, s.Load.Round(time.Second))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tfew/s\tmany/s\ttimes\twanted\tp50 few\tp50 many\tp99 few\tp99 many\t")
	for _, c := range s.Cases {
		if c.Ratio > maxSlower {
			slow++
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%s\t%s\t%s\t%s\t%s\t\n", c.Name, median(rates(c.Few)), median(rates(c.Many)), c.Ratio,
			verdict(c.Ratio <= maxSlower, fmt.Sprintf("≤ %.1f", maxSlower)),
			round(typical(c.Few, p50)), round(typical(c.Many, p50)), round(typical(c.Few, p99)), round(typical(c.Many, p99)))
	}
	_ = t.Flush()
	return slow
}
