package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// activityPerPage is how many acts a page shows.
const activityPerPage = 30

type activityPage struct {
	Person string
	Acts   []activityRow
	Older  string // path of the next page; empty: there is none
	First  bool   // this is the newest page
}

type activityRow struct {
	What    string
	Refused bool
	When    string
	Device  string       // empty: not known
	Address string       // empty: not known
	Place   string       // empty: not known
	App     string       // empty: the act concerns none
	Acting  string       // who acted in the person's name, and through whom; empty: they themselves
	About   identity.Act // a factor that this act added and that is still there
}

func (p *Pages) activityPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	ctx := r.Context()
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	before, ok := parsePosition(q.value("before"))
	if !ok {
		return errMalformed
	}
	u, err := p.People.User(ctx, s.UserID)
	if err != nil {
		return err
	}
	acts, err := p.Audit.Trail(ctx, u.ID, before, activityPerPage+1)
	if err != nil {
		return err
	}
	factors, err := p.People.Factors(ctx, u.ID)
	if err != nil {
		return err
	}
	page := activityPage{Person: u.ID, First: before.ID == ""}
	if len(acts) > activityPerPage {
		acts = acts[:activityPerPage]
		page.Older = "/account/activity?before=" + url.QueryEscape(formatPosition(acts[len(acts)-1].Position()))
	}
	l, now, names := p.locale(ctx), p.Now(), map[string]string{}
	for _, a := range acts {
		row := activityRow{What: l.act(a), Refused: a.Outcome == audit.Failure, When: l.when(a.At, now, u.Preferences.Zone)}
		if a.Place.UserAgent != "" {
			row.Device = l.device(a.Place.UserAgent)
		}
		if a.Place.Address.IsValid() {
			row.Address, row.Place = a.Place.Address.String(), p.place(l, a.Place.Address)
		}
		if about := addedBy(a); about != "" && slices.Contains(factors, about) {
			row.About = about
		}
		if row.App, err = p.appName(ctx, a.ClientID, names); err != nil {
			return err
		}
		if actor := a.Detail["acting"]; actor != "" {
			if row.Acting, err = p.acting(ctx, l, actor, strings.Fields(a.Detail["through"]), names); err != nil {
				return err
			}
		}
		page.Acts = append(page.Acts, row)
	}
	return p.render(w, r, view{Name: "account_activity", Content: page, Wide: true, Nav: "activity"})
}

// act says in words what was done.
func (l *locale) act(e audit.Entry) string {
	key := "activity." + e.Action
	if e.Outcome == audit.Failure {
		key += ".failure"
		if e.Detail["reason"] == "locked" {
			key = "activity.locked"
		}
	}
	if words, ok := l.texts[key]; ok {
		return words
	}
	return e.Action // of a newer release, while an older one still runs
}

// appName is what people call an app, its id if it is gone; names keeps those that were asked for.
func (p *Pages) appName(ctx context.Context, id string, names map[string]string) (string, error) {
	if id == "" {
		return "", nil
	}
	if name, ok := names[id]; ok {
		return name, nil
	}
	names[id] = id
	c, err := p.OAuth.Clients.Get(ctx, id)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return "", err
	}
	if err == nil && c.Name != "" {
		names[id] = c.Name
	}
	return names[id], nil
}

// formatPosition and parsePosition carry a place in the trail in a link. It opens nothing: the trail is the session's person's.
func formatPosition(at audit.Position) string {
	return at.At.UTC().Format(time.RFC3339Nano) + "_" + at.ID
}

// maxPosition bounds the text of a position in bytes.
const maxPosition = 100

func parsePosition(text string) (at audit.Position, ok bool) {
	if text == "" {
		return at, true
	}
	moment, id, found := strings.Cut(text, "_")
	if !found || id == "" || len(text) > maxPosition {
		return at, false
	}
	t, err := time.Parse(time.RFC3339Nano, moment)
	if err != nil || t.UTC().Year() < 1970 || t.UTC().Year() > 9000 {
		return at, false
	}
	return audit.Position{At: t, ID: id}, true
}

type disownPage struct {
	Mailed  bool
	Email   string
	Removed bool // a factor that somebody had added
}

// disown is "this wasn't me": whoever else is in the account is thrown out, and the way back leads through the mailbox. It asks for no
// password, since a thief may have changed it, and gains a thief nothing. To take a factor out with it needs a fresh proof, as
// removing one does.
func (p *Pages) disown(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	about := identity.Act(f.value("about"))
	if about != "" {
		if fresh, err := p.proven(r.Context(), s); err != nil {
			return err
		} else if !fresh {
			return p.redirect(w, r, "/confirm?to=activity")
		}
	}
	removed, err := p.People.Disown(r.Context(), u.ID, about)
	if err != nil {
		return err
	}
	return p.disowned(w, r, u, removed)
}

// addedBy gives the act that added a factor; empty: it added none.
func addedBy(e audit.Entry) identity.Act {
	switch {
	case e.Outcome == audit.Failure:
	case e.Action == "passkey.add":
		return identity.PasskeyAct(e.Detail["passkey"])
	case e.Action == "totp.enrol":
		return identity.Act(e.Detail["factor"])
	}
	return ""
}
