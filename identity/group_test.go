package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func (w *world) group(t *testing.T, name string) Group {
	t.Helper()
	g, err := w.CreateGroup(t.Context(), "", name, "")
	wantNil(t, "create group "+name, err)
	return g
}

func (w *world) nest(t *testing.T, parent, child Group) {
	t.Helper()
	wantNil(t, child.Name+" into "+parent.Name, w.Nest(t.Context(), "", parent.ID, child.ID))
}

func (w *world) join(t *testing.T, g Group, u User, admin bool) {
	t.Helper()
	wantNil(t, "add member", w.AddMember(t.Context(), "", g.ID, u.ID, admin))
}

// role makes a role with one permission at an API, both made as needed.
func (w *world) role(t *testing.T, name, api, permission string, guarded bool) Role {
	t.Helper()
	a, err := w.API(t.Context(), api)
	if errors.Is(err, ErrNotFound) {
		a, err = w.CreateAPI(t.Context(), "", api, "An API")
	}
	wantNil(t, "API", err)
	wantNil(t, "permission", w.AddPermission(t.Context(), "", a.ID, permission, ""))
	a, err = w.API(t.Context(), api)
	wantNil(t, "API", err)
	r, err := w.CreateRole(t.Context(), "", Role{Name: name, Guarded: guarded})
	wantNil(t, "role", err)
	for _, p := range a.Permissions {
		if p.Name == permission {
			wantNil(t, "permit", w.Permit(t.Context(), "", r.ID, p.ID))
		}
	}
	return r
}

// rights gives what a person has as "g:NAME", "r:NAME" and "p:API#NAME".
func (w *world) rights(t *testing.T, u User) []string {
	t.Helper()
	r, err := w.Rights(t.Context(), u.ID)
	wantNil(t, "rights", err)
	list := []string{}
	for _, g := range r.Groups {
		list = append(list, "g:"+g.Name)
	}
	for _, role := range r.Roles {
		list = append(list, "r:"+role.Name)
	}
	for _, p := range r.Permissions {
		list = append(list, "p:"+p.API+"#"+p.Name)
	}
	return list
}

func (w *world) wantRights(t *testing.T, what string, u User, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), w.rights(t, u)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestRightsComeByNesting(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		company, team := w.group(t, "Company"), w.group(t, "Team")
		w.nest(t, company, team)
		w.join(t, team, ada, false)
		w.join(t, company, bob, false)
		reader := w.role(t, "Reader", "https://orders.example.com", "orders:read", false)
		writer := w.role(t, "Writer", "https://orders.example.com", "orders:write", false)
		own := w.role(t, "Own", "shop", "edit", false)
		wantNil(t, "give", w.GiveRoleToGroup(t.Context(), "", reader.ID, company.ID))
		wantNil(t, "give", w.GiveRoleToGroup(t.Context(), "", writer.ID, team.ID))
		wantNil(t, "give", w.GiveRole(t.Context(), "", own.ID, ada.ID))
		w.wantRights(t, "in the inner group", ada, "g:Company", "g:Team", "r:Own", "r:Reader", "r:Writer",
			"p:shop#edit", "p:https://orders.example.com#orders:read", "p:https://orders.example.com#orders:write")
		w.wantRights(t, "in the outer group", bob, "g:Company", "r:Reader", "p:https://orders.example.com#orders:read")

		of, err := w.GroupsOf(t.Context(), ada.ID)
		if err != nil || len(of) != 2 || of[0].Direct || !of[1].Direct || of[1].JoinedAt.IsZero() {
			t.Errorf("groups of ada: %+v, %v", of, err)
		}
		for name, tc := range map[string]struct {
			u    User
			ids  []string
			want bool
		}{
			"direct": {ada, []string{"x", team.ID}, true}, "by nesting": {ada, []string{company.ID}, true},
			"the other way": {bob, []string{team.ID}, false}, "none": {ada, nil, false}, "by name": {ada, []string{"Team"}, false},
		} {
			if got, err := w.InGroup(t.Context(), tc.u.ID, tc.ids); err != nil || got != tc.want {
				t.Errorf("%s: in group %v, %v; want %v", name, got, err, tc.want)
			}
		}
		wantNil(t, "unnest", w.Unnest(t.Context(), "", company.ID, team.ID))
		wantErr(t, "unnest again", w.Unnest(t.Context(), "", company.ID, team.ID), ErrNotFound)
		wantNil(t, "take", w.TakeRole(t.Context(), "", own.ID, ada.ID))
		wantNil(t, "take", w.TakeRoleFromGroup(t.Context(), "", writer.ID, team.ID))
		w.wantRights(t, "after", ada, "g:Team")
		wantNil(t, "forbid", w.Forbid(t.Context(), "", reader.ID, mustPermission(t, w, "https://orders.example.com", "orders:read")))
		w.wantRights(t, "role without permission", bob, "g:Company", "r:Reader")
		wantNil(t, "remove", w.RemoveMember(t.Context(), "", team.ID, ada.ID))
		wantErr(t, "remove again", w.RemoveMember(t.Context(), "", team.ID, ada.ID), ErrNotFound)
		w.wantRights(t, "nothing left", ada)
	})
}

func mustPermission(t *testing.T, w *world, api, name string) string {
	t.Helper()
	a, err := w.API(t.Context(), api)
	wantNil(t, "API", err)
	for _, p := range a.Permissions {
		if p.Name == name {
			return p.ID
		}
	}
	t.Fatalf("no permission %s at %s", name, api)
	return ""
}

// Zitadel CVE-2026-55670: what was called so before is somebody else now.
func TestAttackReusedNameBringsRightsBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.create(t, "ada@example.com")
		group, outer := w.group(t, "Ops"), w.group(t, "Outer")
		w.nest(t, outer, group)
		w.join(t, group, ada, true)
		role := w.role(t, "Root", "https://api.example.com", "all", false)
		wantNil(t, "give", w.GiveRoleToGroup(t.Context(), "", role.ID, group.ID))
		wantNil(t, "give", w.GiveRole(t.Context(), "", role.ID, ada.ID))

		wantNil(t, "delete group", w.DeleteGroup(t.Context(), "", group.ID))
		again := w.group(t, "ops")
		if again.ID == group.ID {
			t.Fatal("an id was given twice")
		}
		w.wantRights(t, "group made anew", ada, "r:Root", "p:https://api.example.com#all")
		if in, err := w.InGroup(t.Context(), ada.ID, []string{group.ID, again.ID}); in || err != nil {
			t.Errorf("in the old or the new group: %v, %v", in, err)
		}
		if up, err := w.Supergroups(t.Context(), again.ID); len(up) > 0 || err != nil {
			t.Errorf("the new group stands in %v, %v", up, err)
		}

		// The permission, the API, the role, in turn.
		api, err := w.API(t.Context(), "https://api.example.com")
		wantNil(t, "API", err)
		wantNil(t, "remove permission", w.RemovePermission(t.Context(), "", api.ID, "all"))
		wantNil(t, "add permission", w.AddPermission(t.Context(), "", api.ID, "all", ""))
		w.wantRights(t, "permission made anew", ada, "r:Root")
		wantNil(t, "permit", w.Permit(t.Context(), "", role.ID, mustPermission(t, w, api.Identifier, "all")))
		wantNil(t, "delete API", w.DeleteAPI(t.Context(), "", api.ID))
		again2, err := w.CreateAPI(t.Context(), "", api.Identifier, "Anew")
		wantNil(t, "create API", err)
		wantNil(t, "add permission", w.AddPermission(t.Context(), "", again2.ID, "all", ""))
		w.wantRights(t, "API made anew", ada, "r:Root")
		wantNil(t, "permit", w.Permit(t.Context(), "", role.ID, mustPermission(t, w, api.Identifier, "all")))
		wantNil(t, "delete role", w.DeleteRole(t.Context(), "", role.ID))
		w.role(t, "ROOT", api.Identifier, "all", false)
		w.wantRights(t, "role made anew", ada)

		// A person who is gone, and another with the same address.
		w.join(t, again, ada, true)
		wantNil(t, "delete person", w.Delete(t.Context(), ada.ID))
		second := w.create(t, "ada@example.com")
		w.wantRights(t, "person made anew", second)
		wantErr(t, "a role to nobody", w.GiveRole(t.Context(), "", role.ID, second.ID), ErrNotFound)
		wantErr(t, "membership of nobody", w.AddMember(t.Context(), "", again.ID, ada.ID, false), ErrNotFound)
		wantErr(t, "membership in nothing", w.AddMember(t.Context(), "", group.ID, second.ID, false), ErrNotFound)
	})
}

func TestAttackGroupInsideItself(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, c := w.group(t, "A"), w.group(t, "B"), w.group(t, "C")
		w.nest(t, a, b)
		w.nest(t, b, c)
		w.nest(t, a, c) // by two ways is no circle
		w.nest(t, a, b) // twice is once
		for name, pair := range map[string][2]Group{"itself": {a, a}, "its child": {b, a}, "its grandchild": {c, a}} {
			wantErr(t, "into "+name, w.Nest(t.Context(), "", pair[0].ID, pair[1].ID), ErrGroupCycle)
		}
		wantErr(t, "into nothing", w.Nest(t.Context(), "", "x", a.ID), ErrNotFound)
		wantErr(t, "nothing into it", w.Nest(t.Context(), "", a.ID, "x"), ErrNotFound)
	})
}

func TestAttackGroupsNestedWithoutEnd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var line []Group
		for i := range MaxGroupDepth + 1 {
			line = append(line, w.group(t, fmt.Sprint("G", i)))
		}
		for i := range MaxGroupDepth - 1 {
			w.nest(t, line[i], line[i+1])
		}
		last := line[MaxGroupDepth]
		wantErr(t, "below", w.Nest(t.Context(), "", line[MaxGroupDepth-1].ID, last.ID), ErrGroupDepth)
		wantErr(t, "above", w.Nest(t.Context(), "", last.ID, line[0].ID), ErrGroupDepth)
		w.nest(t, line[0], last)
		u := w.create(t, "ada@example.com")
		w.join(t, line[MaxGroupDepth-1], u, false)
		if got := w.rights(t, u); len(got) != MaxGroupDepth {
			t.Errorf("at the bottom: %v, want all %d groups of the line", got, MaxGroupDepth)
		}
	})
}

// Each change is harmless alone; together they would close a circle.
func TestAttackCircleByConcurrentChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for round := range 8 {
			const n = 6
			var ring []Group
			for i := range n {
				ring = append(ring, w.group(t, fmt.Sprintf("R%d-%d", round, i)))
			}
			errs := make([]error, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { errs[i] = w.Nest(t.Context(), "", ring[i].ID, ring[(i+1)%n].ID) })
			}
			wg.Wait()
			refused := 0
			for _, err := range errs {
				if errors.Is(err, ErrGroupCycle) {
					refused++
				} else if err != nil {
					t.Errorf("got error %v, want none or ErrGroupCycle", err)
				}
			}
			if refused != 1 {
				t.Errorf("round %d: %d of %d changes refused, want the one that closes the circle", round, refused, n)
			}
		}
	})
}

func TestGroupNames(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		g := w.group(t, "Grüne Äpfel")
		_, err := w.CreateGroup(t.Context(), "", "GRÜNE ÄPFEL", "")
		wantErr(t, "other case", err, ErrNameTaken)
		_, err = w.CreateGroup(t.Context(), "", "Gru\u0308ne A\u0308pfel", "")
		wantErr(t, "other composition", err, ErrNameTaken)
		for name, key := range map[string]string{
			"": KeyRequired, "  ": KeyRequired, strings.Repeat("x", 101): KeyTooLong, "a\u202eb": KeyCharacters, "a\u200bb": KeyCharacters, "a\x00": KeyCharacters,
			g.ID: KeyCharacters, // nobody takes a name for an id
		} {
			_, err := w.CreateGroup(t.Context(), "", name, "")
			wantField(t, fmt.Sprintf("name %q", name), err, "name", key)
		}
		got, err := w.GroupNamed(t.Context(), " grüne äpfel ")
		if err != nil || got.ID != g.ID {
			t.Errorf("by name: %v, %v", got, err)
		}
		other := w.group(t, "Birnen")
		other.Name = "Grüne äpfel"
		wantErr(t, "rename to a taken name", w.UpdateGroup(t.Context(), "", other), ErrNameTaken)
		other.Name, other.Description = "Zitronen", "sour"
		wantNil(t, "rename", w.UpdateGroup(t.Context(), "", other))
		list, err := w.Groups(t.Context(), "", 0)
		if err != nil || len(list) != 2 || list[1].Name != "Zitronen" || list[1].Description != "sour" {
			t.Errorf("list: %+v, %v", list, err)
		}
		if rest, err := w.Groups(t.Context(), list[0].Name, 1); err != nil || len(rest) != 1 || rest[0].ID != other.ID {
			t.Errorf("second page: %+v, %v", rest, err)
		}
		wantErr(t, "delete nothing", w.DeleteGroup(t.Context(), "", "x"), ErrNotFound)
	})
}

func TestEveryChangeOfRightsIsAudited(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		ctx := t.Context()
		g, outer := w.group(t, "G"), w.group(t, "O")
		r := w.role(t, "R", "shop", "edit", true)
		p := mustPermission(t, w, "shop", "edit")
		a, err := w.API(ctx, "shop")
		wantNil(t, "API", err)
		for what, err := range map[string]error{
			"update group": w.UpdateGroup(ctx, "boss", g), "update role": w.UpdateRole(ctx, "boss", r),
			"nest": w.Nest(ctx, "boss", outer.ID, g.ID), "join": w.AddMember(ctx, "boss", g.ID, u.ID, true),
			"give": w.GiveRole(ctx, "boss", r.ID, u.ID), "give group": w.GiveRoleToGroup(ctx, "boss", r.ID, g.ID),
		} {
			wantNil(t, what, err)
		}
		for _, f := range []func() error{
			func() error { return w.Unnest(ctx, "boss", outer.ID, g.ID) }, func() error { return w.RemoveMember(ctx, "boss", g.ID, u.ID) },
			func() error { return w.TakeRole(ctx, "boss", r.ID, u.ID) }, func() error { return w.TakeRoleFromGroup(ctx, "boss", r.ID, g.ID) },
			func() error { return w.Forbid(ctx, "boss", r.ID, p) }, func() error { return w.RemovePermission(ctx, "boss", a.ID, "edit") },
			func() error { return w.DeleteAPI(ctx, "boss", a.ID) }, func() error { return w.DeleteRole(ctx, "boss", r.ID) },
			func() error { return w.DeleteGroup(ctx, "boss", g.ID) },
		} {
			wantNil(t, "change", f())
		}
		by := map[string]string{}
		wantNil(t, "audit", w.db.Query(ctx, func(row db.Scanner) error {
			var action, actor string
			err := row.Scan(&action, &actor)
			by[action] = actor
			return err
		}, `SELECT action, actor FROM audit ORDER BY id`))
		for _, action := range []string{
			"group.update", "role.update", "group.nest", "group.join", "role.give", "group.unnest", "group.leave", "role.take", "role.forbid",
			"api.permission_remove", "api.delete", "role.delete", "group.delete",
		} {
			if by[action] != "boss" {
				t.Errorf("%s: actor %q, want boss", action, by[action])
			}
		}
		for _, action := range []string{"group.create", "role.create", "api.create", "api.permission_add", "role.permit"} {
			if _, ok := by[action]; !ok {
				t.Errorf("%s is not audited", action)
			}
		}
	})
}

func TestAPIs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, bad := range []string{"", "https://", "/relative", "https://a.example#part", "https://a.example/ b", "a b", strings.Repeat("x", 3000)} {
			_, err := w.CreateAPI(t.Context(), "", bad, "Name")
			wantField(t, fmt.Sprintf("identifier %.20q", bad), err, "identifier", KeyURLInvalid)
		}
		a, err := w.CreateAPI(t.Context(), "", "urn:example:orders", "Orders")
		wantNil(t, "create", err)
		_, err = w.CreateAPI(t.Context(), "", "urn:example:orders", "Other")
		wantErr(t, "again", err, ErrNameTaken)
		for _, bad := range []string{"", "a b", "a\"b", "a\\b", "ä", strings.Repeat("x", 101)} {
			wantField(t, fmt.Sprintf("permission %.20q", bad), w.AddPermission(t.Context(), "", a.ID, bad, ""), "permission", KeyCharacters)
		}
		wantNil(t, "permission", w.AddPermission(t.Context(), "", a.ID, "read", "Read orders"))
		wantNil(t, "other words", w.AddPermission(t.Context(), "", a.ID, "read", "Read all orders"))
		got, err := w.API(t.Context(), "urn:example:orders")
		if err != nil || len(got.Permissions) != 1 || got.Permissions[0].Description != "Read all orders" {
			t.Errorf("API: %+v, %v", got, err)
		}
		if list, err := w.APIs(t.Context(), "", 0); err != nil || len(list) != 1 {
			t.Errorf("list: %+v, %v", list, err)
		}
		wantErr(t, "permission of nothing", w.AddPermission(t.Context(), "", "x", "read", ""), ErrNotFound)
		if list, err := w.Roles(t.Context(), "", 0); err != nil || len(list) != 0 {
			t.Errorf("roles: %+v, %v", list, err)
		}
	})
}

func TestGroupInvitation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		g := w.group(t, "Team")
		w.join(t, g, ada, true)
		in, err := w.Invite(ctx, ada.ID, g.ID, "BOB@example.com")
		wantNil(t, "invite", err)
		if _, err := w.Invite(ctx, ada.ID, g.ID, "nobody@example.com"); err != nil {
			t.Errorf("invite a stranger: %v, want the same as for a person (account enumeration)", err)
		}
		_, err = w.Invite(ctx, ada.ID, g.ID, "ada@example.com")
		wantField(t, "invite a member", err, "email", KeyMember)
		_, err = w.Invite(ctx, ada.ID, g.ID, "no address")
		wantField(t, "invite rubbish", err, "email", KeyEmailInvalid)
		sent, err := w.Invitations(ctx, g.ID)
		if err != nil || len(sent) != 2 || sent[1].Email != in.Email || sent[1].InviterID != ada.ID {
			t.Errorf("sent: %+v, %v", sent, err)
		}

		// The address is not proven yet.
		if list, err := w.InvitedTo(ctx, bob.ID); len(list) > 0 || err != nil {
			t.Errorf("unproven address sees %v, %v", list, err)
		}
		wantErr(t, "join by an unproven address", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		w.prove(t, bob)
		list, err := w.InvitedTo(ctx, bob.ID)
		if err != nil || len(list) != 1 || list[0].Group.Name != "Team" || list[0].Email != "" {
			t.Errorf("invited to %+v, %v", list, err)
		}
		if won := race(t, ErrNotFound, func() error { return w.Join(ctx, bob.ID, in.ID) }); won != 1 {
			t.Errorf("joined %d times by one invitation", won)
		}
		w.wantRights(t, "joined", bob, "g:Team")
		members, err := w.Members(ctx, g.ID, "", 0)
		if err != nil || len(members) != 2 || members[0].User.Email != ada.Email || !members[0].Admin || members[1].Admin {
			t.Errorf("members: %+v, %v", members, err)
		}
		if rest, err := w.Members(ctx, g.ID, ada.ID, 1); err != nil || len(rest) != 1 || rest[0].User.ID != bob.ID {
			t.Errorf("second page: %+v, %v", rest, err)
		}
		wantNil(t, "see out", w.SeeOut(ctx, ada.ID, g.ID, bob.ID))
		wantErr(t, "the invitation is used up", w.Join(ctx, bob.ID, in.ID), ErrNotFound)

		in, err = w.Invite(ctx, ada.ID, g.ID, bob.Email)
		wantNil(t, "invite", err)
		wantNil(t, "decline", w.Decline(ctx, bob.ID, in.ID))
		wantErr(t, "join what was declined", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		in, err = w.Invite(ctx, ada.ID, g.ID, bob.Email)
		wantNil(t, "invite", err)
		wantNil(t, "take back", w.Uninvite(ctx, ada.ID, g.ID, in.ID))
		wantErr(t, "join what was taken back", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		in, err = w.Invite(ctx, ada.ID, g.ID, bob.Email)
		wantNil(t, "invite", err)
		again, err := w.Invite(ctx, ada.ID, g.ID, bob.Email)
		wantNil(t, "invite again", err)
		wantErr(t, "join by the older one", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		w.pass(15 * 24 * time.Hour)
		wantErr(t, "join too late", w.Join(ctx, bob.ID, again.ID), ErrNotFound)
		wantNil(t, "purge", w.Purge(ctx))
		var n int
		wantNil(t, "count", w.db.QueryRow(ctx, `SELECT COUNT(*) FROM group_invitations`).Scan(&n))
		if n != 0 {
			t.Errorf("%d invitations left after the purge", n)
		}
	})
}

// prove makes a person's address a proven one.
func (w *world) prove(t *testing.T, u User) {
	t.Helper()
	link, err := w.NewLink(t.Context(), u.ID, Verify, "")
	wantNil(t, "link", err)
	_, err = w.VerifyEmail(t.Context(), link, u.ID)
	wantNil(t, "verify", err)
}

func TestAttackGroupAdminReachesBeyondTheGroup(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		ada, bob, eve := w.create(t, "ada@example.com"), w.create(t, "bob@example.com"), w.create(t, "eve@example.com")
		outer, g, inner := w.group(t, "Outer"), w.group(t, "G"), w.group(t, "Inner")
		w.nest(t, outer, g)
		w.nest(t, g, inner)
		w.join(t, g, ada, true)
		w.join(t, g, bob, false)
		w.join(t, outer, eve, false)
		w.join(t, inner, eve, false)
		in, err := w.Invite(ctx, ada.ID, g.ID, "x@example.com")
		wantNil(t, "invite", err)
		for _, tc := range []struct {
			name  string
			who   User
			group Group
		}{
			{"the group around it", ada, outer}, {"the group in it", ada, inner}, {"a mere member", bob, g}, {"nobody of it", eve, g}, {"no such group", ada, Group{ID: "x"}},
		} {
			_, _, err := w.Administered(ctx, tc.who.ID, tc.group.ID)
			wantErr(t, tc.name+": see", err, ErrNotFound)
			_, err = w.Invite(ctx, tc.who.ID, tc.group.ID, "y@example.com")
			wantErr(t, tc.name+": invite", err, ErrNotFound)
			wantErr(t, tc.name+": see out", w.SeeOut(ctx, tc.who.ID, tc.group.ID, eve.ID), ErrNotFound)
			wantErr(t, tc.name+": take back", w.Uninvite(ctx, tc.who.ID, tc.group.ID, in.ID), ErrNotFound)
		}
		// Somebody else's invitation is an unknown one.
		second := w.group(t, "Second")
		w.join(t, second, eve, true)
		wantErr(t, "take back through another group", w.Uninvite(ctx, eve.ID, second.ID, in.ID), ErrNotFound)
		w.prove(t, bob)
		wantErr(t, "join by somebody else's invitation", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		wantErr(t, "decline somebody else's invitation", w.Decline(ctx, bob.ID, in.ID), ErrNotFound)
		// Fellow admins, and oneself, are the operator's.
		w.join(t, g, eve, true)
		wantErr(t, "see an admin out", w.SeeOut(ctx, ada.ID, g.ID, eve.ID), ErrNotFound)
		wantErr(t, "see oneself out", w.SeeOut(ctx, ada.ID, g.ID, ada.ID), ErrNotFound)
		// A disabled admin is none.
		wantNil(t, "disable", w.SetStatus(ctx, ada.ID, StatusDisabled))
		wantErr(t, "disabled: see out", w.SeeOut(ctx, ada.ID, g.ID, bob.ID), ErrNotFound)
	})
}

// Membership never gives more than the admin who hands it on has.
func TestAttackGroupAdminHandsOnMoreThanTheyHave(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.prove(t, bob)
		outer, g := w.group(t, "Outer"), w.group(t, "G")
		w.join(t, g, ada, true)
		in, err := w.Invite(ctx, ada.ID, g.ID, bob.Email)
		wantNil(t, "invite", err)

		// State flipped between invitation and answer: the group is put where a guarded role is.
		root := w.role(t, "Root", "shop", "all", true)
		wantNil(t, "give", w.GiveRoleToGroup(ctx, "", root.ID, outer.ID))
		w.nest(t, outer, g)
		wantErr(t, "join a group that carries a guarded role by now", w.Join(ctx, bob.ID, in.ID), ErrGuarded)
		_, err = w.Invite(ctx, ada.ID, g.ID, "new@example.com")
		wantErr(t, "invite into it", err, ErrGuarded)
		if _, guarded, err := w.Administered(ctx, ada.ID, g.ID); !guarded || err != nil {
			t.Errorf("administered: guarded %v, %v", guarded, err)
		}
		w.wantRights(t, "invited", bob)
		// A role that is guarded later counts at once, one that is not does not keep people out.
		root.Guarded = false
		wantNil(t, "open", w.UpdateRole(ctx, "", root))
		wantNil(t, "dismiss", w.AddMember(ctx, "", g.ID, ada.ID, false))
		wantErr(t, "join by the word of a dismissed admin", w.Join(ctx, bob.ID, in.ID), ErrNotFound)
		wantNil(t, "appoint", w.AddMember(ctx, "", g.ID, ada.ID, true))
		wantNil(t, "join", w.Join(ctx, bob.ID, in.ID))
		have := w.rights(t, ada)
		for _, right := range w.rights(t, bob) {
			if !slices.Contains(have, right) {
				t.Errorf("the admin handed on %s, which they lack", right)
			}
		}
		// With the admin's membership go the invitations.
		_, err = w.Invite(ctx, ada.ID, g.ID, "new@example.com")
		wantNil(t, "invite", err)
		wantNil(t, "remove the admin", w.RemoveMember(ctx, "", g.ID, ada.ID))
		if list, err := w.Invitations(ctx, g.ID); len(list) > 0 || err != nil {
			t.Errorf("invitations of an admin who is gone: %v, %v", list, err)
		}
	})
}

func TestAttackInvitationsWithoutEnd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, g := w.create(t, "ada@example.com"), w.group(t, "G")
		w.join(t, g, ada, true)
		var err error
		for i := range invitesPerHour + 1 {
			_, err = w.Invite(t.Context(), ada.ID, g.ID, fmt.Sprintf("p%d@example.com", i))
		}
		wantLimit(t, "one too many", err)
	})
}

func TestErasureForgetsInvitations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob, g := w.create(t, "ada@example.com"), w.create(t, "bob@example.com"), w.group(t, "G")
		w.join(t, g, ada, true)
		for _, email := range []string{bob.Email, "other@example.com"} {
			_, err := w.Invite(t.Context(), ada.ID, g.ID, email)
			wantNil(t, "invite", err)
		}
		wantNil(t, "erase the invited", w.Delete(t.Context(), bob.ID))
		if list, err := w.Invitations(t.Context(), g.ID); err != nil || len(list) != 1 {
			t.Errorf("after the erasure of the invited: %+v, %v", list, err)
		}
		wantNil(t, "erase the admin", w.Delete(t.Context(), ada.ID))
		var n int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM group_invitations`).Scan(&n))
		if n != 0 {
			t.Errorf("%d invitations of somebody who is erased", n)
		}
	})
}
