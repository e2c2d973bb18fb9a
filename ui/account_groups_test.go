package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

const carol = "carol@example.com"

// team is a group of which alice is the admin and bob a member.
func (w *world) team(t testing.TB) (g identity.Group, admin, member identity.User) {
	t.Helper()
	admin, member = w.person(t, alice), w.person(t, bob)
	g, err := w.people.CreateGroup(t.Context(), "", "Team Berlin", "Everybody in Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for u, isAdmin := range map[string]bool{admin.ID: true, member.ID: false} {
		if err := w.people.AddMember(t.Context(), "", g.ID, u, isAdmin); err != nil {
			t.Fatal(err)
		}
	}
	return g, admin, member
}

// guarded gives a group a role that only operators give.
func (w *world) guarded(t testing.TB, g identity.Group) {
	t.Helper()
	ctx := t.Context()
	role, err := w.people.CreateRole(ctx, "", identity.Role{Name: "Root", Guarded: true})
	if err == nil {
		err = w.people.GiveRoleToGroup(ctx, "", role.ID, g.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestGroupAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, _, _ := w.team(t)
	b := w.browser(t)
	b.signIn(alice)
	b.get("/account/groups").want(http.StatusOK).says("Team Berlin", "Everybody in Berlin", "Manage")
	p := b.get("/account/groups/"+g.ID).want(http.StatusOK, "invite-submit")
	p.says(alice, bob)
	p = b.press(p, "invite-submit", map[string]string{"email": "nobody"}).want(http.StatusUnprocessableEntity, "email-problem")
	p = b.press(p, "invite-submit", map[string]string{"email": bob}).want(http.StatusUnprocessableEntity, "email-problem")

	// Somebody with an account, and somebody without one: the same answer.
	w.person(t, carol)
	known := b.press(p, "invite-submit", map[string]string{"email": carol}).want(http.StatusOK, "done")
	m := w.mailTo(t, carol)
	if !strings.Contains(m.Text, "Team Berlin") || !strings.Contains(m.Text, w.site.URL("/account/groups")) {
		t.Errorf("mail:\n%s", m.Text)
	}
	forbidden(t, m.Text, alice)
	unknown := b.press(known, "invite-submit", map[string]string{"email": "dora@example.com"}).want(http.StatusOK, "done")
	if !strings.Contains(w.mailTo(t, "dora@example.com").Text, "Team Berlin") {
		t.Error("no mail to a stranger")
	}
	unknown.says(carol, "dora@example.com")

	c := w.browser(t)
	c.signIn(carol)
	p = c.get("/account/groups")
	p.says("Team Berlin")
	id := p.field("invitation")
	c.post("/account/invitations/join", url.Values{"invitation": {id}}).want(http.StatusOK, "done").says("Team Berlin")
	c.post("/account/invitations/join", url.Values{"invitation": {id}}).want(http.StatusGone, "error-page")
	if page := b.get("/account/groups/" + g.ID); !strings.Contains(page.body, carol) {
		t.Error("the new member is not on the page")
	}
	u, err := w.people.UserByEmail(t.Context(), carol)
	if err != nil {
		t.Fatal(err)
	}
	b.post("/account/groups/"+g.ID+"/remove", url.Values{"member": {u.ID}}).want(http.StatusOK, "done")
	if page := b.get("/account/groups/" + g.ID); strings.Contains(page.body, carol) {
		t.Error("the member is still on the page")
	}
	// Taken back.
	b.post("/account/groups/"+g.ID+"/uninvite", url.Values{"invitation": {b.get("/account/groups/" + g.ID).field("invitation")}}).want(http.StatusOK, "done")
	if page := b.get("/account/groups/" + g.ID); strings.Contains(page.body, "dora@") {
		t.Error("the invitation is still on the page")
	}
	// A role that only operators give closes the group.
	b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": carol}).want(http.StatusOK, "done")
	w.guarded(t, g)
	c.post("/account/invitations/join", url.Values{"invitation": {c.get("/account/groups").field("invitation")}}).want(http.StatusGone, "error-page")
	if p := b.get("/account/groups/" + g.ID); strings.Contains(p.body, "invite-submit") {
		t.Error("people can be invited to a guarded group")
	}
	b.post("/account/groups/"+g.ID+"/invite", url.Values{"email": {"x@example.com"}}).want(http.StatusUnprocessableEntity, "summary")
	c.post("/account/invitations/decline", url.Values{"invitation": {c.get("/account/groups").field("invitation")}}).want(http.StatusOK, "done")
}

// field is the value of the first hidden field of a name.
func (p page) field(name string) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(p.body, `name="`+name+`" value="`)
	if !ok {
		p.t.Fatalf("no field %s on %s", name, p.url)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// KC CVE-2026-3121: the admin of one thing reaches another by its address.
func TestAttackGroupPagesOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, admin, member := w.team(t)
	other, err := w.people.CreateGroup(t.Context(), "", "Secret", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.people.AddMember(t.Context(), "", other.ID, member.ID, false); err != nil {
		t.Fatal(err)
	}
	a, m := w.browser(t), w.browser(t)
	a.signIn(alice)
	m.signIn(bob)
	in, err := w.people.Invite(t.Context(), admin.ID, g.ID, carol)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		b  *browser
		id string
	}{
		"admin of another group": {a, other.ID}, "mere member": {m, g.ID}, "no such group": {a, "01890a5d-ac96-774b-bcce-b302099a8057"}, "rubbish": {a, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.b.get("/account/groups/"+tc.id).want(http.StatusNotFound, "error-page")
			forbidden(t, p.body, "Secret", "Berlin")
			for path, form := range map[string]url.Values{"invite": {"email": {"x@example.com"}}, "remove": {"member": {member.ID}}, "uninvite": {"invitation": {in.ID}}} {
				tc.b.post("/account/groups/"+tc.id+"/"+path, form).want(http.StatusNotFound, "error-page")
			}
		})
	}
	// Admins cannot be seen out, oneself among them.
	a.post("/account/groups/"+g.ID+"/remove", url.Values{"member": {admin.ID}}).want(http.StatusNotFound, "error-page")
	// An old proof is not enough.
	w.clock.forward(20 * time.Minute)
	p := a.get("/account/groups/" + g.ID)
	if p.url.Path != "/confirm" {
		t.Errorf("an old proof led to %s", p.url)
	}
	a.post("/account/groups/"+g.ID+"/remove", url.Values{"member": {member.ID}})
	if in, err := w.people.InGroup(t.Context(), member.ID, []string{g.ID}); !in || err != nil {
		t.Errorf("removed by an old proof: %v, %v", in, err)
	}
}

// Where only the invited may make an account, an admin of a group invites strangers all the same.
func TestStrangerInvitedToGroup(t *testing.T) {
	t.Parallel()
	const dora = "dora@example.com"
	w := newWorld(t, byInvitation)
	g, _, _ := w.team(t)
	b := w.browser(t)
	b.signIn(alice)
	b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": dora}).want(http.StatusOK, "done")
	link := w.mailLink(t, dora)
	if m := w.mailTo(t, dora); !strings.HasPrefix(link, "/invitation?t=") || !strings.Contains(m.Text, "Team Berlin") || strings.Contains(m.Text, alice) {
		t.Fatalf("mail: %s\n%s", m.Subject, m.Text)
	}
	b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": dora}).want(http.StatusOK, "done") // once more
	w.pages.Wait()
	w.browser(t).get(link).want(http.StatusNotFound, "error-page")
	link = w.mailLink(t, dora)
	d := w.browser(t)
	p := d.press(d.get(link).want(http.StatusOK, "invitation-submit").says("Team Berlin"), "invitation-submit", map[string]string{"password": password})
	p.at("/account/groups").says("Team Berlin")
	d.post("/account/invitations/join", url.Values{"invitation": {p.field("invitation")}}).want(http.StatusOK, "done").says("Team Berlin")
	w.browser(t).get(link).want(http.StatusGone, "error-page")
	if u := w.userByEmail(t, dora); !u.EmailVerified || u.Role != identity.RoleUser {
		t.Errorf("account %+v", u)
	}
}

// Such an invitation is worth no more than the one to the group: taken back, or its admin none any more, it lets nobody in.
func TestAttackSignUpByInvitationOfAFormerAdmin(t *testing.T) {
	t.Parallel()
	const dora = "dora@example.com"
	for name, end := range map[string]func(t *testing.T, w *world, g identity.Group, admin identity.User, b *browser){
		"taken back": func(t *testing.T, w *world, g identity.Group, _ identity.User, b *browser) {
			t.Helper()
			b.post("/account/groups/"+g.ID+"/uninvite", url.Values{"invitation": {b.get("/account/groups/" + g.ID).field("invitation")}}).want(http.StatusOK, "done")
		},
		"no admin any more": func(t *testing.T, w *world, g identity.Group, admin identity.User, _ *browser) {
			t.Helper()
			if err := w.people.RemoveMember(t.Context(), "", g.ID, admin.ID); err != nil {
				t.Fatal(err)
			}
		},
		"guarded": func(t *testing.T, w *world, g identity.Group, _ identity.User, _ *browser) {
			t.Helper()
			w.guarded(t, g)
		},
		"admin disabled": func(t *testing.T, w *world, _ identity.Group, admin identity.User, _ *browser) {
			t.Helper()
			if err := w.people.SetStatus(t.Context(), admin.ID, identity.StatusDisabled); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, byInvitation)
			g, admin, _ := w.team(t)
			b := w.browser(t)
			b.signIn(alice)
			b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": dora}).want(http.StatusOK, "done")
			link := w.mailLink(t, dora)
			end(t, w, g, admin, b)
			w.browser(t).post(link, url.Values{"password": {password}}).want(http.StatusNotFound, "error-page")
			if _, err := w.people.UserByEmail(t.Context(), dora); err == nil {
				t.Error("an account was made")
			}
		})
	}
}
