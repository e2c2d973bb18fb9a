package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

var moment = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

type row struct {
	At                                                           time.Time
	Action, Outcome, Actor, UserID, ClientID, RequestID, Details string
}

func rows(t *testing.T, d *db.DB) (list []row) {
	t.Helper()
	if err := d.Query(t.Context(), func(s db.Scanner) error {
		var r row
		var at db.Time
		err := s.Scan(&at, &r.Action, &r.Outcome, &r.Actor, &r.UserID, &r.ClientID, &r.RequestID, &r.Details)
		r.At = at.Time
		list = append(list, r)
		return err
	}, `SELECT at, action, outcome, actor, user_id, client_id, request_id, detail FROM audit ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	return list
}

func newLog(d *db.DB) (*audit.Log, *strings.Builder) {
	var out strings.Builder
	return audit.New(d, slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return moment }), &out
}

func TestRecord(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		l, out := newLog(d)
		l.Record(web.WithRequestID(t.Context(), "r1"), audit.Event{
			Action: "session.start", Outcome: audit.Failure, Actor: "u1", UserID: "u2", ClientID: "c1", Detail: map[string]string{"why": "password"},
		})
		l.Record(t.Context(), audit.Event{Action: "key.rotate"})
		want := []row{
			{moment, "session.start", "failure", "u1", "u2", "c1", "r1", `{"why":"password"}`},
			{moment, "key.rotate", "success", "", "", "", "", `{}`},
		}
		if got := rows(t, d); !cmp.Equal(got, want) {
			t.Errorf("rows (-want +got):\n%s", cmp.Diff(want, got))
		}
		if out.Len() != 0 {
			t.Errorf("log: %s", out)
		}
	})
}

func TestRecordBelongsToTheTransaction(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		l, _ := newLog(d)
		refused := errors.New("refused")
		for _, outcome := range []error{nil, refused} {
			err := d.Tx(t.Context(), func(ctx context.Context) error {
				l.Record(ctx, audit.Event{Action: "x"})
				return outcome
			})
			if !errors.Is(err, outcome) {
				t.Fatalf("got %v, want %v", err, outcome)
			}
		}
		if got := rows(t, d); len(got) != 1 {
			t.Errorf("got %d rows, want the one of the transaction that was committed", len(got))
		}
	})
}

// Whoever hangs up at the right moment must not stay out of the log.
func TestHangingUpDoesNotHideAnAct(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		l, out := newLog(d)
		ctx, cancel := context.WithCancel(web.WithRequestID(t.Context(), "r1"))
		cancel()
		l.Record(ctx, audit.Event{Action: "x"})
		if got := rows(t, d); len(got) != 1 || got[0].RequestID != "r1" {
			t.Errorf("got %+v (%s), want one row of request r1", got, out)
		}
	})
}

// Ids of refused requests are the attacker's text; Postgres would refuse some of it.
func TestHostileIDsDoNotHideAnAct(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		l, out := newLog(d)
		for _, id := range []string{"a\x00b", "\xff\xfe", strings.Repeat("x", 100000), strings.Repeat("é", 150), "'; DROP TABLE audit; --"} {
			l.Record(t.Context(), audit.Event{Action: "x", Actor: id, UserID: id, ClientID: id, Detail: map[string]string{id: id}})
		}
		got := rows(t, d)
		if len(got) != 5 || out.Len() != 0 {
			t.Fatalf("got %d rows, want 5; log: %s", len(got), out)
		}
		for _, r := range got {
			if len(r.ClientID) > 210 || !json.Valid([]byte(r.Details)) {
				t.Errorf("row of %d bytes, detail %.50s", len(r.ClientID), r.Details)
			}
		}
	})
}

func TestLostRowIsLogged(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	l, out := newLog(d)
	_ = d.Close()
	l.Record(t.Context(), audit.Event{Action: "grant.theft", UserID: "u1", ClientID: "c1"})
	for _, want := range []string{"level=ERROR", "action=grant.theft", "user_id=u1", "client_id=c1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log %q lacks %q", out, want)
		}
	}
}
