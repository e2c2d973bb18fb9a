package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/identity/userfile"
)

type userImport struct {
	File           string            `arg:"" help:"The file; - is standard input."`
	From           string            `required:"" enum:"csv,json,keycloak,auth0,kratos,firebase" placeholder:"FORMAT" help:"What the file is: csv, json, keycloak, auth0, kratos or firebase (docs/import.md)."`
	Source         string            `placeholder:"NAME" help:"Name of the system the people come from, in which their ids are unique. Give it when you import from two of one kind. [the format]"`
	DryRun         bool              `help:"Say what would happen, row by row, and change nothing."`
	TrustVerified  bool              `help:"Believe the file which addresses and phone numbers are verified. Otherwise everybody proves theirs again."`
	KeepIDs        bool              `name:"keep-ids" help:"People keep their ids (UUIDs), so that apps go on knowing them by the same sub."`
	Drop           []string          `enum:"hash,factor,profile" placeholder:"WHAT" help:"Take people without what cannot be taken over, instead of refusing them: hash (they set a new password by mail), factor (their account has one lock less), profile (a wrong phone number or the like); repeat."`
	Map            map[string]string `mapsep:"," placeholder:"NAME=FIELD" help:"Attribute of the other system that goes into a field of the profile, such as mobile=phone_number; repeat."`
	PasswordHashes string            `placeholder:"PATH" help:"Auth0: the export of password hashes."`
	HashKey        string            `placeholder:"BASE64" help:"Firebase: base64_signer_key of the project; - reads it from standard input, so that it does not show in process lists."`
	SaltSeparator  string            `default:"Bw==" placeholder:"BASE64" help:"Firebase: base64_salt_separator. [${default}]"`
	Rounds         int               `default:"8" placeholder:"N" help:"Firebase: rounds. [${default}]"`
	MemCost        int               `default:"14" placeholder:"N" help:"Firebase: mem_cost. [${default}]"`

	Storage storage `embed:""`
}

// importRow is a row of the report: one that was refused or skipped, or from which something was dropped.
type importRow struct {
	Row      int                `json:"row"`
	ID       string             `json:"id,omitempty"` // at the source, unless it is an address
	Outcome  string             `json:"outcome"`
	Problems []identity.Problem `json:"problems"`
}

// importSummary ends the report.
type importSummary struct {
	DryRun   bool           `json:"dry_run"`
	Complete bool           `json:"complete"` // the file was read to its end
	Rows     int            `json:"rows"`
	Imported int            `json:"imported"`
	Known    int            `json:"known"`
	Refused  int            `json:"refused"`
	Skipped  int            `json:"skipped"`
	Dropped  int            `json:"rows_with_dropped_values"`
	Left     map[string]int `json:"attributes_left"` // that have no place here, with the number of rows that had them
	Seconds  float64        `json:"seconds"`
}

// outcomeSkipped is a row that is no person.
const outcomeSkipped = "skipped"

// maxLeft bounds the names in importSummary.Left; the others are counted together.
const maxLeft = 200

// Run implements the command.
func (c *userImport) Run(t *terminal) error {
	file, size, err := c.open(t.stdin)
	if err != nil {
		return err
	}
	defer file.Close()
	options, err := c.options(t.stdin)
	if err != nil {
		return err
	}
	if c.PasswordHashes != "" {
		hashes, err := os.Open(c.PasswordHashes)
		if err != nil {
			return badSetting("password-hashes", "%v", err)
		}
		defer hashes.Close()
		if options.Hashes, err = userfile.OpenHashes(hashes); err != nil {
			return badSetting("password-hashes", "%v", err)
		}
	}
	counted := &countedReader{in: file}
	reader, err := userfile.Open(c.From, bufio.NewReaderSize(counted, 1<<16), options)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		into, err := people.NewImport(identity.ImportConfig{
			Source: either(c.Source, c.From), DryRun: c.DryRun, TrustEmail: c.TrustVerified, KeepIDs: c.KeepIDs, DropInvalid: slices.Contains(c.Drop, "profile"),
		})
		if err != nil {
			return badSetting("source", "%v", err)
		}
		run := &importRun{
			reader: reader, into: into, report: newImportReport(t),
			progress: newProgress(t.stderr, size, func() int64 { return counted.n }),
			summary:  importSummary{DryRun: c.DryRun, Left: map[string]int{}},
		}
		err = run.all(t.ctx)
		run.progress.end()
		if failed := run.report.end(run.summary); err == nil {
			err = failed
		}
		switch s := run.summary; {
		case errors.Is(err, context.Canceled):
			return fmt.Errorf("stopped after row %d: run the same command again, and it goes on", s.Rows)
		case err != nil:
			return fmt.Errorf("after row %d: %w", s.Rows, err)
		case s.Refused > 0:
			return fmt.Errorf("%d of %d rows were refused: correct them and run the same command again", s.Refused, s.Rows)
		}
		return nil
	})
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (c *userImport) open(stdin io.Reader) (file io.ReadCloser, size int64, err error) {
	if c.File == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		_ = f.Close()
		return nil, 0, fmt.Errorf("%s is no file to read", c.File)
	}
	return f, info.Size(), nil
}

func (c *userImport) options(stdin io.Reader) (o userfile.Options, err error) {
	o = userfile.Options{Map: c.Map, DropHash: slices.Contains(c.Drop, "hash"), DropFactor: slices.Contains(c.Drop, "factor")}
	if c.HashKey == "" {
		return o, nil
	}
	key := c.HashKey
	if key == "-" {
		if c.File == "-" {
			return o, badSetting("hash-key", "standard input is the file already")
		}
		line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return o, fmt.Errorf("read the key: %w", err)
		}
		key = strings.TrimSpace(line)
	}
	o.Firebase.Rounds, o.Firebase.MemoryCost = c.Rounds, c.MemCost
	if o.Firebase.SignerKey, err = identity.DecodeBase64(key); err != nil || len(o.Firebase.SignerKey) == 0 {
		return o, badSetting("hash-key", "is not base64: copy base64_signer_key from the project's password hash parameters")
	}
	if o.Firebase.SaltSeparator, err = identity.DecodeBase64(c.SaltSeparator); err != nil {
		return o, badSetting("salt-separator", "is not base64: copy base64_salt_separator from the project's password hash parameters")
	}
	return o, nil
}

// countedReader counts what was read, for the progress.
type countedReader struct {
	in io.Reader
	n  int64
}

// Read implements io.Reader.
func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// importRun is one reading of a file.
type importRun struct {
	reader   *userfile.Reader
	into     *identity.Import
	report   *importReport
	progress *progress
	summary  importSummary
}

func (r *importRun) all(ctx context.Context) error {
	begin := time.Now()
	defer func() { r.summary.Seconds = time.Since(begin).Seconds() }()
	batch := make([]userfile.Record, 0, identity.MaxArrivals)
	for {
		record, err := r.reader.Next()
		if err == nil {
			batch = append(batch, record)
		}
		if err != nil || len(batch) == cap(batch) {
			if failed := r.add(ctx, batch); failed != nil {
				return failed
			}
			batch = batch[:0]
			r.progress.tell(r.summary.Rows)
		}
		if errors.Is(err, io.EOF) {
			r.summary.Complete = true
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// add takes a batch over and reports it.
func (r *importRun) add(ctx context.Context, batch []userfile.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var arrivals []identity.Arrival
	for _, record := range batch {
		if record.Skipped == "" && len(record.Problems) == 0 {
			arrivals = append(arrivals, record.Arrival)
		}
	}
	admissions, err := r.into.Add(ctx, arrivals)
	if err != nil {
		return err
	}
	for _, record := range batch {
		row := importRow{Row: record.Row, ID: record.ExternalID}
		if strings.Contains(row.ID, "@") {
			row.ID = ""
		}
		switch {
		case record.Skipped != "":
			row.Outcome, row.Problems = outcomeSkipped, []identity.Problem{{Field: "row", Reason: record.Skipped}}
		case len(record.Problems) > 0:
			row.Outcome, row.Problems = identity.Refused, record.Problems
		default:
			row.Outcome, row.Problems = admissions[0].Outcome, append(admissions[0].Problems, record.Dropped...)
			admissions = admissions[1:]
		}
		if err := r.count(row, record.Left); err != nil {
			return err
		}
	}
	return nil
}

func (r *importRun) count(row importRow, left []string) error {
	s := &r.summary
	s.Rows++
	switch row.Outcome {
	case identity.Admitted:
		s.Imported++
		if len(row.Problems) > 0 {
			s.Dropped++
		}
	case identity.Known:
		s.Known++
		return nil // said when it came
	case identity.Refused:
		s.Refused++
	default:
		s.Skipped++
	}
	for _, name := range left {
		if _, ok := s.Left[name]; !ok && len(s.Left) >= maxLeft {
			name = "(others)"
		}
		s.Left[name]++
	}
	if len(row.Problems) == 0 {
		return nil
	}
	return r.report.row(row)
}

// importReport writes rows as they come: there may be a million.
type importReport struct {
	json bool
	out  *bufio.Writer
	rows int
}

func newImportReport(t *terminal) *importReport {
	return &importReport{json: t.json, out: bufio.NewWriter(t.stdout)}
}

func (r *importReport) row(row importRow) error {
	r.rows++
	if r.json {
		raw, err := json.Marshal(row)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.out, "%s\n    %s", []string{"{\n  \"report\": [", ","}[min(r.rows-1, 1)], raw)
		return err
	}
	for _, p := range row.Problems {
		id, what := "", ""
		if row.ID != "" {
			id = " (" + row.ID + ")"
		}
		if row.Outcome == identity.Admitted {
			what = ", left out"
		}
		if _, err := fmt.Fprintf(r.out, "row %d%s: %s%s: %s %s\n", row.Row, id, row.Outcome, what, p.Field, p.Reason); err != nil {
			return err
		}
	}
	return nil
}

func (r *importReport) end(s importSummary) error {
	if r.json {
		if r.rows == 0 {
			_, _ = r.out.WriteString("{\n  \"report\": [")
		}
		raw, err := json.MarshalIndent(s, "  ", "  ")
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(r.out, "\n  ],\n  \"summary\": %s\n}\n", raw)
		return r.out.Flush()
	}
	if r.rows > 0 {
		_, _ = r.out.WriteString("\n")
	}
	done := "imported"
	if s.DryRun {
		done = "would be imported"
	}
	_, _ = fmt.Fprintf(r.out, "rows               %d\n%-18s %d\n", s.Rows, done, s.Imported)
	for _, line := range []struct {
		name string
		n    int
	}{{"here already", s.Known}, {"refused", s.Refused}, {"skipped", s.Skipped}, {"with values left out", s.Dropped}} {
		if line.n > 0 {
			_, _ = fmt.Fprintf(r.out, "%-18s %d\n", line.name, line.n)
		}
	}
	if len(s.Left) > 0 {
		_, _ = r.out.WriteString("\nAttributes that have no place here, and in how many rows (--map gives them one):\n")
		for _, name := range slices.Sorted(maps.Keys(s.Left)) {
			_, _ = fmt.Fprintf(r.out, "  %s  %d\n", name, s.Left[name])
		}
	}
	return r.out.Flush()
}
