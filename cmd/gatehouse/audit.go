package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
)

type auditCommands struct {
	List   auditList   `cmd:"" help:"List what was done, the newest first."`
	Export auditExport `cmd:"" help:"Write what was done as JSON lines, the oldest first."`
	Verify auditVerify `cmd:"" help:"Prove that no row of the audit log was changed or removed; exits with 1 and names the first mismatch otherwise."`
}

// auditFilter picks rows.
type auditFilter struct {
	Since  string `placeholder:"TIME" help:"From then on: 2026-01-31, 2026-01-31T15:04:05Z, or a span such as 24h or 7d ago."`
	Until  string `placeholder:"TIME" help:"Before then."`
	Action string `placeholder:"NAME" help:"Only this, such as session.start."`
	User   string `placeholder:"ID" help:"Only what concerns this person."`
	Client string `placeholder:"ID" help:"Only what concerns this app."`
	Places bool   `help:"With address and browser, as far as they can be read. Whoever is erased later stays readable in what you keep."`
}

func (f auditFilter) filter(now time.Time) (out audit.Filter, err error) {
	out = audit.Filter{Action: f.Action, UserID: f.User, ClientID: f.Client}
	if out.Since, err = parseMoment("since", f.Since, now); err != nil {
		return out, err
	}
	out.Until, err = parseMoment("until", f.Until, now)
	return out, err
}

// parseMoment reads a date, a time or a span before now; empty is the zero time.
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := parseSpan(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, badSetting(flag, "%q is not a time: write it like 2026-01-31, 2026-01-31T15:04:05Z or 24h", text)
}

// show drops what was not asked for.
func (f auditFilter) show(list []audit.Entry) []audit.Entry {
	for i := range list {
		if !f.Places {
			list[i].Place = audit.Place{}
		}
	}
	return list
}

type auditList struct {
	Filter  auditFilter `embed:""`
	Limit   int         `help:"Number of rows. [${default}]" default:"100" placeholder:"N"`
	Storage storage     `embed:""`
}

// Run implements the command.
func (c *auditList) Run(t *terminal) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return badSetting("limit", "%d is out of range: choose 1 to 1000, and go on with --until", c.Limit)
	}
	filter, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	filter.Newest = true
	return withData(t, &c.Storage, func(d *data) error {
		list, err := d.audit.Rows(t.ctx, filter, audit.Position{}, c.Limit)
		if err != nil {
			return err
		}
		list = c.Filter.show(list)
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "TIME\tACTION\tOUTCOME\tACTOR\tPERSON\tAPP\tREQUEST\tADDRESS\tCHAIN")
			for _, e := range list {
				address := ""
				if e.Place.Address.IsValid() {
					address = e.Place.Address.String()
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", when(e.At), e.Action, e.Outcome, dash(e.Actor), dash(e.UserID), dash(e.ClientID), dash(e.RequestID), dash(address), dash(chainOf(e)))
			}
		})
	})
}

// chainOf says who acted for a person, and through which apps.
func chainOf(e audit.Entry) string {
	switch actor, through := e.Detail["acting"], strings.Fields(e.Detail["through"]); {
	case actor == "":
		return ""
	case len(through) == 0:
		return actor + " acting for " + e.UserID
	default:
		return actor + " acting for " + e.UserID + " through " + strings.Join(through, ", ")
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type auditExport struct {
	Filter  auditFilter `embed:""`
	Storage storage     `embed:""`
}

// exportPage is how many rows an export reads at a time.
const exportPage = 1000

// Run implements the command. Its output is JSON with and without --json.
func (c *auditExport) Run(t *terminal) error {
	filter, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	return withData(t, &c.Storage, func(d *data) error {
		out := json.NewEncoder(t.stdout)
		out.SetEscapeHTML(false)
		for at := (audit.Position{}); ; {
			list, err := d.audit.Rows(t.ctx, filter, at, exportPage)
			if err != nil {
				return err
			}
			for _, e := range c.Filter.show(list) {
				if err := out.Encode(e); err != nil {
					return err
				}
			}
			if len(list) < exportPage {
				return nil
			}
			at = list[len(list)-1].Position()
		}
	})
}

type auditVerify struct {
	Checkpoint []string `placeholder:"PATH" help:"File with what an earlier run printed, or its checkpoint alone; repeat. Without one nobody can tell if the whole database was put back to an older state."`
	Storage    storage  `embed:""`
}

// progressEvery is how often a long verification says how far it is.
const progressEvery = 2 * time.Second

// maxCheckpoint bounds a checkpoint's file in bytes.
const maxCheckpoint = 64 << 10

// Run implements the command.
func (c *auditVerify) Run(t *terminal) error {
	var kept []string
	for _, path := range c.Checkpoint {
		note, err := readCheckpoint(path)
		if err != nil {
			return badSetting("checkpoint", "%v: give a file that holds a checkpoint", err)
		}
		kept = append(kept, note)
	}
	return withData(t, &c.Storage, func(d *data) error {
		tree, err := audit.OpenTree(t.ctx, audit.TreeConfig{DB: d.db, Seal: d.seal, Log: d.log})
		if err != nil {
			return err
		}
		said := time.Now()
		report, err := tree.Verify(t.ctx, kept, func(done, total int64) {
			if time.Since(said) >= progressEvery {
				said = time.Now()
				_, _ = fmt.Fprintf(t.stderr, "checked %d of %d rows\n", done, total)
			}
		})
		if err != nil {
			return err
		}
		if err := t.print(report, func(w io.Writer) { writeReport(w, report) }); err != nil {
			return err
		}
		if !report.OK {
			return fmt.Errorf("the audit log was tampered with: %s", report.Problems[0].Text)
		}
		return nil
	})
}

// readCheckpoint takes the checkpoint itself or all that an earlier run printed, with or without --json.
func readCheckpoint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCheckpoint))
	if err != nil {
		return "", err
	}
	var report audit.Report
	if json.Unmarshal(raw, &report) == nil {
		return report.Checkpoint, nil
	}
	text := string(raw)
	return text[max(0, strings.Index(text, audit.CheckpointBegin)):], nil
}

func writeReport(w io.Writer, r *audit.Report) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	for _, p := range r.Problems {
		line("PROBLEM\t%s\t%s", p.Kind, p.Text)
	}
	line("rows in the tree\t%d", r.Leaves)
	if r.Removed > 0 {
		line("removed by retention\t%d", r.Removed)
	}
	if r.Late > 0 {
		line("written late\t%d", r.Late)
	}
	line("not signed yet\t%d", r.Unsigned)
	line("not in the tree yet\t%d", r.Pending)
	line("checkpoints\t%d", r.Checkpoints)
	line("public key\t%s", r.PublicKey)
	if r.Checkpoint != "" {
		line("")
		line("Newest checkpoint; keep it outside this machine, for --checkpoint of a later run:")
		line("")
		_, _ = io.WriteString(w, strings.TrimRight(r.Checkpoint, "\n")+"\n")
	}
}
