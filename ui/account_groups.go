package ui

import (
	"context"
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// groupRoutes are the pages of a person's groups, and of the groups that they are an admin of.
func (p *Pages) groupRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/groups", Handler: p.member(p.groupsPage)},
		{Pattern: "POST /account/invitations/join", Handler: p.member(p.joinGroup)},
		{Pattern: "POST /account/invitations/decline", Handler: p.member(p.declineGroup)},
		{Pattern: "GET /account/attributes", Handler: p.member(p.attributesPage)},
		{Pattern: "POST /account/attributes", Handler: p.member(p.saveAttributes)},
		// Who is let in decides about others' data: each needs a recent proof, and the page says so before anything is typed.
		{Pattern: "GET /account/groups/{id}", Handler: p.confirmed(p.freshly("groups", p.groupPage))},
		{Pattern: "POST /account/groups/{id}/invite", Handler: p.confirmed(p.freshly("groups", p.inviteToGroup))},
		{Pattern: "POST /account/groups/{id}/uninvite", Handler: p.confirmed(p.freshly("groups", p.uninviteFromGroup))},
		{Pattern: "POST /account/groups/{id}/remove", Handler: p.confirmed(p.freshly("groups", p.seeOutOfGroup))},
	}
}

type groupsPage struct {
	Done    string
	Person  string
	Invited []invitationRow
	Groups  []groupRow
	Roles   []roleRow
}

type invitationRow struct {
	ID          string
	Group       string
	Description string
	Email       string // on the page of the group
	Until       string
}

type groupRow struct {
	ID          string
	Name        string
	Description string
	Since       string // empty: by another group
	Admin       bool
}

type roleRow struct {
	Name string
	May  []string // in words
}

func (p *Pages) groupsPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	ctx := r.Context()
	u, err := p.People.User(ctx, s.UserID)
	if err != nil {
		return err
	}
	invited, err := p.People.InvitedTo(ctx, u.ID)
	if err != nil {
		return err
	}
	groups, err := p.People.GroupsOf(ctx, u.ID)
	if err != nil {
		return err
	}
	rights, err := p.People.Rights(ctx, u.ID)
	if err != nil {
		return err
	}
	page, l, now := groupsPage{Done: done(r), Person: u.ID}, p.locale(ctx), p.Now()
	for _, in := range invited {
		page.Invited = append(page.Invited, invitationRow{
			ID: in.ID, Group: in.Group.Name, Description: in.Group.Description, Until: l.when(in.ExpiresAt, now, u.Profile.Zoneinfo),
		})
	}
	for _, b := range groups {
		row := groupRow{ID: b.Group.ID, Name: b.Group.Name, Description: b.Group.Description, Admin: b.Admin}
		if b.Direct {
			row.Since = l.when(b.JoinedAt, now, u.Profile.Zoneinfo)
		}
		page.Groups = append(page.Groups, row)
	}
	for _, role := range rights.Roles {
		page.Roles = append(page.Roles, roleRow{Name: role.Name, May: role.May})
	}
	return p.render(w, r, view{Name: "account_groups", Content: page, Wide: true, Nav: "groups"})
}

func (p *Pages) joinGroup(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	switch err := p.People.Join(r.Context(), s.UserID, f.value("invitation")); {
	case errors.Is(err, identity.ErrGuarded), errors.Is(err, identity.ErrNotFound):
		return &pageError{status: http.StatusGone, key: "error.group_invitation", next: "/account/groups"}
	case err != nil:
		return err
	}
	return p.redirect(w, r, "/account/groups?done=group_joined")
}

func (p *Pages) declineGroup(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	if err := p.People.Decline(r.Context(), s.UserID, f.value("invitation")); err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	return p.redirect(w, r, "/account/groups?done=group_declined")
}

type groupPage struct {
	Done    string
	Person  string
	ID      string
	Name    string
	About   string
	Guarded bool // nobody can be invited
	Invited []invitationRow
	Members []memberRow
	Next    string // id behind which there are more
	Email   string // as typed
	Errors  identity.FieldErrors
}

type memberRow struct {
	ID    string
	Name  string
	Email string
	Since string
	Admin bool
}

// membersAtOnce is one page of members.
const membersAtOnce = 50

func (p *Pages) groupPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showGroup(w, r, s, "", nil)
}

// showGroup shows a group to one of its admins. To anybody else it is an unknown page, whether the group exists or not
// (insecure direct object reference).
func (p *Pages) showGroup(w http.ResponseWriter, r *http.Request, s identity.Session, email string, problems identity.FieldErrors) error {
	ctx := r.Context()
	g, guarded, err := p.People.Administered(ctx, s.UserID, r.PathValue("id"))
	if err != nil {
		return err
	}
	u, err := p.People.User(ctx, s.UserID)
	if err != nil {
		return err
	}
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	members, err := p.People.Members(ctx, g.ID, query.value("after"), membersAtOnce)
	if err != nil {
		return err
	}
	invited, err := p.People.Invitations(ctx, g.ID)
	if err != nil {
		return err
	}
	l, now := p.locale(ctx), p.Now()
	page := groupPage{
		Done: done(r), Person: u.ID, ID: g.ID, Name: g.Name, About: g.Description, Guarded: guarded, Email: email, Errors: problems,
	}
	for _, m := range members {
		page.Members = append(page.Members, memberRow{
			ID: m.User.ID, Name: m.User.Profile.Name, Email: m.User.Email, Admin: m.Admin, Since: l.when(m.JoinedAt, now, u.Profile.Zoneinfo),
		})
	}
	if len(members) == membersAtOnce {
		page.Next = members[membersAtOnce-1].User.ID
	}
	for _, in := range invited {
		page.Invited = append(page.Invited, invitationRow{ID: in.ID, Email: in.Email, Until: l.when(in.ExpiresAt, now, u.Profile.Zoneinfo)})
	}
	v := view{Name: "account_group", Title: g.Name, Content: page, Wide: true, Nav: "groups"}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// groupPath leads back to the page of a group. The id has been found among the groups of the person.
func groupPath(id, done string) string { return "/account/groups/" + id + "?done=" + done }

// inviteToGroup asks somebody to join. The answer is the same whether they have an account (account enumeration); the mail goes
// behind it.
func (p *Pages) inviteToGroup(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	email := f.trimmed("email")
	if email == "" {
		return p.showGroup(w, r, s, "", identity.FieldErrors{"email": identity.KeyRequired})
	}
	in, err := p.People.Invite(r.Context(), s.UserID, r.PathValue("id"), email)
	var problems identity.FieldErrors
	switch {
	case errors.As(err, &problems):
		return p.showGroup(w, r, s, email, problems)
	case errors.Is(err, identity.ErrGuarded):
		return p.showGroup(w, r, s, email, identity.FieldErrors{"email": "account_group.guarded"})
	case err != nil:
		return err
	}
	l := p.locale(r.Context())
	if err := p.mailOnce(r.Context(), in.Email, func(ctx context.Context) error { return p.mailGroupInvitation(ctx, l, in) }); err != nil {
		return err
	}
	return p.redirect(w, r, groupPath(in.Group.ID, "group_invited"))
}

// mailGroupInvitation tells the holder of an address that they are asked to join. It names the group, whose name is the
// operator's, and nothing that the inviter typed.
func (p *Pages) mailGroupInvitation(ctx context.Context, l *locale, in identity.Invitation) error {
	u, err := p.People.UserByEmail(ctx, in.Email)
	switch {
	case err == nil && u.Status != identity.StatusActive:
		return nil
	case err == nil:
		l = p.localeFor(ctx, u)
	case !errors.Is(err, identity.ErrNotFound):
		return err
	case p.Invitations: // a stranger, who may make an account by this, whoever else may or may not
		_, err := p.People.InviteToSignUpFor(ctx, in, l.Lang)
		if err == nil {
			return p.SendInvitations(ctx)
		}
		if !errors.Is(err, identity.ErrInvited) { // there is a mail with such a link already
			return err
		}
	}
	return p.post(ctx, in.Email, l, letter{name: "group_invitation", act: []string{l.text("mail.group_invitation.group", in.Group.Name)}, link: p.Site.URL("/account/groups")})
}

func (p *Pages) uninviteFromGroup(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	g, _, err := p.People.Administered(r.Context(), s.UserID, r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := p.People.Uninvite(r.Context(), s.UserID, g.ID, f.value("invitation")); err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	return p.redirect(w, r, groupPath(g.ID, "group_uninvited"))
}

func (p *Pages) seeOutOfGroup(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	g, _, err := p.People.Administered(r.Context(), s.UserID, r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := p.People.SeeOut(r.Context(), s.UserID, g.ID, f.value("member")); err != nil {
		return err
	}
	return p.redirect(w, r, groupPath(g.ID, "group_removed"))
}
