package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type benchCommands struct {
	Load benchLoad `cmd:"" help:"Fill an empty database with made-up people, sessions, consents and grants, to measure how the server fares with many (docs/performance.md)."`
}

type benchLoad struct {
	People int  `default:"1000000" placeholder:"N" help:"People. [${default}]"`
	Grants int  `default:"5" placeholder:"N" help:"Grants of each. [${default}]"`
	Force  bool `help:"Even if there are people already. All made-up people have one password: never where real ones are."`

	Storage storage `embed:""`
}

// loadReport is what bench load did.
type loadReport struct {
	People   int     `json:"people"`
	Sessions int     `json:"sessions"`
	Consents int     `json:"consents"`
	Grants   int     `json:"grants"`
	Audit    int     `json:"audit_rows"`
	Email    string  `json:"email"`    // of the first; the others count on
	Password string  `json:"password"` // of all
	Seconds  float64 `json:"seconds"`
}

const (
	loadApps  = 20
	loadBatch = 2000 // people at a time
	loadPast  = 3 * 24 * time.Hour
)

// Run implements the command.
func (c *benchLoad) Run(t *terminal) error {
	if c.People < 1 || c.Grants < 0 || c.Grants > 100 {
		return badSetting("people", "choose at least one, with up to 100 grants each")
	}
	return withData(t, &c.Storage, func(d *data) error {
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		first, err := people.Users(t.ctx, "", 1)
		if err != nil {
			return err
		}
		if len(first) > 0 && !c.Force {
			return errors.New("there are people in this database: bench load wants an empty one (or --force, and a million accounts that share a password)")
		}
		begin := time.Now()
		l, err := newLoad(t.ctx, d, people, c.Grants)
		if err != nil {
			return err
		}
		if err := l.run(t, c.People); err != nil {
			return err
		}
		report := loadReport{
			People: c.People, Sessions: c.People, Consents: c.People * min(c.Grants, 2), Grants: c.People * c.Grants, Audit: 2 * c.People,
			Email: identity.InhabitantEmail(1), Password: l.password, Seconds: time.Since(begin).Seconds(),
		}
		return t.print(report, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "people\t%d\ngrants\t%d\nseconds\t%.0f\naddresses\t%s and so on\npassword of all\t%s\n",
				report.People, report.Grants, report.Seconds, report.Email, report.Password)
		})
	})
}

// load fills the database.
type load struct {
	d          *data
	population *identity.Population
	consents   *consent.Store
	grants     *oauth.Grants
	audit      *audit.Log
	apps       []string
	each       int // grants
	password   string
	at         time.Time
}

func newLoad(ctx context.Context, d *data, people *identity.Directory, each int) (*load, error) {
	l := &load{d: d, each: each, password: oneTimePassword(), at: time.Now().Add(-loadPast)}
	clients, err := oauth.OpenClients(ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
	if err != nil {
		return nil, err
	}
	for n := range loadApps {
		app, _, err := clients.Create(ctx, oauth.Client{Name: fmt.Sprintf("App %d", n+1), RedirectURIs: []string{"https://app.load.example/callback"}}.WithDefaults())
		if err != nil {
			return nil, err
		}
		l.apps = append(l.apps, app.ID)
	}
	if l.population, err = people.NewPopulation(ctx, l.password, l.at); err != nil {
		return nil, err
	}
	tree, err := audit.OpenTree(ctx, audit.TreeConfig{DB: d.db, Seal: d.seal, Log: d.log})
	if err != nil {
		return nil, err
	}
	if err := tree.Maintain(ctx); err != nil { // or the server would first move all rows into their month's partition
		return nil, err
	}
	// Old enough that the chain of audit rows is not looked for in them: they are there to be many.
	past := func() time.Time { return l.at }
	l.audit = audit.New(d.db, d.log, past).By("cli")
	l.consents = consent.New(d.db, l.audit, nil)
	l.grants = oauth.OpenGrants(oauth.GrantsConfig{DB: d.db, Audit: l.audit, Revocations: oauth.OpenRevocations(d.db, nil)})
	return l, nil
}

// run adds the people in batches, as many at once as there are processors.
func (l *load) run(t *terminal, people int) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	var next, done atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(loadBatch)) - loadBatch
				if first >= people {
					return
				}
				count := min(loadBatch, people-first)
				if err := l.add(ctx, first+1, count); err != nil {
					cancel(err)
				}
				done.Add(int64(count))
			}
		})
	}
	p := newProgress(t.stderr, int64(people), done.Load)
	finished := make(chan struct{})
	go func() {
		workers.Wait()
		close(finished)
	}()
	for ticker := time.NewTicker(onTerminal); ; {
		select {
		case <-ticker.C:
			p.tell(int(done.Load()))
			continue
		case <-finished:
		}
		ticker.Stop()
		break
	}
	p.end()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	tidy := `PRAGMA wal_checkpoint(TRUNCATE)`
	if l.d.db.Engine() == db.Postgres {
		tidy = `VACUUM ANALYZE` // as autovacuum would have, by and by
	}
	_, err := l.d.db.Exec(ctx, tidy)
	return err
}

func (l *load) add(ctx context.Context, first, count int) error {
	people, err := l.population.Add(ctx, first, count)
	if err != nil {
		return err
	}
	scopes := []string{"email", "offline_access", "openid", "profile"}
	var given []consent.Given
	var issued []oauth.Issued
	var events []audit.Event
	for n, person := range people {
		apps := [2]string{l.apps[(first+n)%loadApps], l.apps[(first+n+7)%loadApps]}
		for i := range min(l.each, 2) {
			given = append(given, consent.Given{UserID: person.UserID, ClientID: apps[i]})
		}
		for i := range l.each {
			issued = append(issued, oauth.Issued{UserID: person.UserID, ClientID: apps[i%2], SessionID: person.SessionID})
		}
		events = append(events, audit.Event{Action: "user.create", UserID: person.UserID}, audit.Event{Action: "session.start", UserID: person.UserID})
	}
	if err := l.consents.Populate(ctx, given, scopes, l.at); err != nil {
		return err
	}
	if err := l.grants.Populate(ctx, issued, scopes, l.at); err != nil {
		return err
	}
	return l.audit.RecordAll(ctx, events)
}
