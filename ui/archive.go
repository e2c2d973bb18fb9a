package ui

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// Archive gathers everything that is held about a person from those who hold it.
type Archive struct {
	People   *identity.Directory
	Consents *consent.Store
	Grants   *oauth.Grants
	Clients  *oauth.Clients
	Outbox   *oauth.Outbox
	Requests *oauth.Requests
	Audit    *audit.Log
	Now      func() time.Time // nil: time.Now
}

// ArchiveFormat names the layout of the file, which docs/privacy.md describes; it changes when a reader would have to.
const ArchiveFormat = "gatehouse-person-1"

// aboutArchive is the first file in the archive.
type aboutArchive struct {
	Format string    `json:"format"`
	UserID string    `json:"user_id"`
	MadeAt time.Time `json:"made_at"`
}

// consentRecord is a consent in the archive.
type consentRecord struct {
	ClientID    string    `json:"client_id"`
	ClientName  string    `json:"client_name,omitempty"`
	Scopes      []string  `json:"scopes"`
	TextVersion string    `json:"text_version"`
	GrantedAt   time.Time `json:"granted_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Write writes a person's data as JSON files in a zip file. progress, which may be nil, is told after each part how many of all
// are done; its error ends the writing.
func (a Archive) Write(ctx context.Context, userID string, w io.Writer, progress func(done, parts int) error) error {
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	held, err := a.People.Holdings(ctx, userID)
	if err != nil {
		return err
	}
	made := now().UTC()
	parts := []struct {
		name   string
		gather func() (any, error)
	}{
		{"about.json", func() (any, error) { return aboutArchive{ArchiveFormat, userID, made}, nil }},
		{"account.json", func() (any, error) { return held.Account, nil }},
		{"profile.json", func() (any, error) { return held.Profile, nil }},
		{"preferences.json", func() (any, error) { return held.Preferences, nil }},
		{"factors.json", func() (any, error) { return held.Factors, nil }},
		{"sessions.json", func() (any, error) { return held.Sessions, nil }},
		{"mail_links.json", func() (any, error) { return held.MailLinks, nil }},
		{"linked_accounts.json", func() (any, error) { return held.Linked, nil }},
		{"groups_and_roles.json", func() (any, error) { return held.Rights, nil }},
		{"attributes.json", func() (any, error) { return held.Rights.Attributes, nil }},
		{"consents.json", func() (any, error) { return a.consents(ctx, userID) }},
		{"grants.json", func() (any, error) { return a.grants(ctx, userID) }},
		{"session_apps.json", func() (any, error) { return a.Outbox.Entered(ctx, userID) }},
		{"deliveries.json", func() (any, error) { return a.Outbox.About(ctx, userID) }},
		{"requests.json", func() (any, error) { return a.Requests.AskedOf(ctx, userID) }},
		{"muted_apps.json", func() (any, error) { return a.Requests.Muted(ctx, userID) }},
		{"activity.json", func() (any, error) { return a.activity(ctx, userID) }},
	}
	file := zip.NewWriter(w)
	for i, part := range parts {
		v, err := part.gather()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		entry, err := file.CreateHeader(&zip.FileHeader{Name: part.name, Method: zip.Deflate, Modified: made})
		if err != nil {
			return err
		}
		enc := json.NewEncoder(entry)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		if progress != nil {
			if err := progress(i+1, len(parts)); err != nil {
				return err
			}
		}
	}
	return file.Close()
}

func (a Archive) consents(ctx context.Context, userID string) ([]consentRecord, error) {
	list, err := a.Consents.List(ctx, userID)
	records := make([]consentRecord, 0, len(list))
	for _, c := range list {
		records = append(records, consentRecord{c.ClientID, a.clientName(ctx, c.ClientID), c.Scopes, c.TextVersion, c.GrantedAt, c.UpdatedAt})
	}
	return records, err
}

func (a Archive) grants(ctx context.Context, userID string) ([]oauth.Granted, error) {
	list, err := a.Grants.Granted(ctx, userID)
	for i := range list {
		list[i].ClientName = a.clientName(ctx, list[i].ClientID)
	}
	return list, err
}

// clientName is empty for an app that is gone.
func (a Archive) clientName(ctx context.Context, id string) string {
	c, err := a.Clients.Get(ctx, id)
	if err != nil {
		return ""
	}
	return c.Name
}

// trailPage is how many rows of a person's trail are read at once.
const trailPage = 1000

func (a Archive) activity(ctx context.Context, userID string) ([]audit.Entry, error) {
	all := []audit.Entry{}
	var before audit.Position
	for {
		some, err := a.Audit.Trail(ctx, userID, before, trailPage)
		if err != nil {
			return nil, err
		}
		for _, e := range some {
			// An administrator's id is that administrator's data, not this person's.
			if e.Actor != userID && e.Actor != e.ClientID && e.Actor != "" && e.Actor != "cli" {
				e.Actor = "administrator"
			}
			all = append(all, e)
		}
		if len(some) < trailPage {
			return all, nil
		}
		before = some[len(some)-1].Position()
	}
}
