package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// clientAccess is what create and update may set of who may use the app, and what it learns of groups and roles.
type clientAccess struct {
	AllowGroup  []string `placeholder:"GROUP" sep:"none" help:"Only people in this group, by name or id, may use the app; repeat for several."`
	AllowAll    bool     `help:"Everybody may use the app again."`
	GroupPrefix *string  `placeholder:"TEXT" help:"Of groups the app learns only those whose name begins so."`
	RolePrefix  *string  `placeholder:"TEXT" help:"Of roles the app learns only those whose name begins so."`
	GroupIDs    *bool    `name:"group-ids" negatable:"" help:"The app learns the ids of groups, which are never used again, in place of their names."`

	allowed []string // ids of AllowGroup
}

// resolve looks the groups up: a client keeps their ids, so that no other group of the name ever opens the app.
func (f *clientAccess) resolve(t *terminal, s *storage) error {
	if len(f.AllowGroup) == 0 {
		return nil
	}
	if f.AllowAll {
		return badSetting("allow-all", "cannot stand beside --allow-group")
	}
	return withPeople(t, s, func(people *identity.Directory) error {
		for _, which := range f.AllowGroup {
			g, err := findGroup(t.ctx, people, which)
			if err != nil {
				return err
			}
			f.allowed = append(f.allowed, g.ID)
		}
		return nil
	})
}

func (f *clientAccess) apply(c *oauth.Client) {
	set(&c.GroupPrefix, f.GroupPrefix)
	set(&c.RolePrefix, f.RolePrefix)
	set(&c.GroupIDs, f.GroupIDs)
	setList(&c.AllowGroups, f.allowed)
	if f.AllowAll {
		c.AllowGroups = nil
	}
}

func writeAccess(w io.Writer, c oauth.Client) {
	if len(c.AllowGroups) > 0 {
		_, _ = fmt.Fprintf(w, "allow_groups\t%s\n", strings.Join(c.AllowGroups, " "))
	}
	for name, prefix := range map[string]string{"group_prefix": c.GroupPrefix, "role_prefix": c.RolePrefix} {
		if prefix != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, prefix)
		}
	}
	if c.GroupIDs {
		_, _ = fmt.Fprintf(w, "group_ids\t%s\n", yes(true))
	}
}
