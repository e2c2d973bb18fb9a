package oauth

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// inGroup makes a group with a role at an API that permits some things, and puts the person into it.
func (h *harness) inGroup(t testing.TB, b *browser, name, api string, permissions ...string) identity.Group {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g, err := h.people.CreateGroup(ctx, "", name, "")
	check(err)
	check(h.people.AddMember(ctx, "", g.ID, b.user.ID, false))
	if api == "" {
		return g
	}
	a, err := h.people.CreateAPI(ctx, "", api, "API")
	check(err)
	role, err := h.people.CreateRole(ctx, "", identity.Role{Name: name + " role"})
	check(err)
	for _, p := range permissions {
		check(h.people.AddPermission(ctx, "", a.ID, p, ""))
	}
	a, err = h.people.API(ctx, api)
	check(err)
	for _, p := range a.Permissions {
		check(h.people.Permit(ctx, "", role.ID, p.ID))
	}
	check(h.people.GiveRoleToGroup(ctx, "", role.ID, g.ID))
	return g
}

func withRights(c *Client) { c.Scopes = append(c.Scopes, rightsScopes...) }

const allRights = "openid offline_access groups roles permissions"

func wantClaim(t testing.TB, where string, claims map[string]any, name string, want ...string) {
	t.Helper()
	got, ok := claims[name].([]any)
	if want == nil {
		if claims[name] != nil {
			t.Errorf("%s: %s is %v, want none", where, name, claims[name])
		}
		return
	}
	list := []string{}
	for _, v := range got {
		list = append(list, fmt.Sprint(v))
	}
	if slices.Equal(want, []string{""}) {
		want = []string{}
	}
	if !ok || !cmp.Equal(list, want) {
		t.Errorf("%s: %s is %v, want %v", where, name, claims[name], want)
	}
}

func TestClaimsOfGroupsAndRoles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		const orders, other = "https://orders.example.test", "https://other.example.test"
		h.inGroup(t, b, "Sales", orders, "read", "write")
		h.inGroup(t, b, "Staff", other, "admin")
		app := h.client(t, func(c *Client) { withRights(c); c.Audiences = []string{orders} })

		a := b.tokens(t, app, "scope", allRights)
		_, id := claimsOf(t, a.str("id_token"))
		_, access := claimsOf(t, a.str("access_token"))
		info := h.userinfoAnswer(t, a.str("access_token")).body
		for where, claims := range map[string]map[string]any{"ID token": id, "userinfo": info} {
			wantClaim(t, where, claims, "groups", "Sales", "Staff")
			wantClaim(t, where, claims, "roles", "Sales role") // the other role opens nothing of this app
			wantClaim(t, where, claims, "permissions", "read", "write")
			if claims["sub"] != b.user.ID {
				t.Errorf("%s: sub %v", where, claims["sub"])
			}
		}
		wantClaim(t, "access token", access, "permissions", "read", "write")
		wantClaim(t, "access token", access, "groups")
		wantClaim(t, "access token", access, "roles")

		// Nothing without the scope, whatever the person has.
		a = b.tokens(t, app, "scope", "openid offline_access groups")
		_, id = claimsOf(t, a.str("id_token"))
		_, access = claimsOf(t, a.str("access_token"))
		wantClaim(t, "groups only", id, "groups", "Sales", "Staff")
		wantClaim(t, "groups only", id, "roles")
		wantClaim(t, "groups only", access, "permissions")

		// One by one (OpenID Connect Core §5.5).
		a = b.tokens(t, app, "scope", "openid", "claims", `{"id_token":{"roles":null},"userinfo":{"groups":null}}`)
		_, id = claimsOf(t, a.str("id_token"))
		wantClaim(t, "asked for", id, "roles", "Sales role")
		wantClaim(t, "asked for", id, "groups")
		wantClaim(t, "asked for", h.userinfoAnswer(t, a.str("access_token")).body, "groups", "Sales", "Staff")

		// Several APIs: each permission says whose it is (confused deputy).
		both := h.client(t, func(c *Client) { withRights(c); c.Audiences = []string{orders, other} })
		_, access = claimsOf(t, b.tokens(t, both, "scope", allRights).str("access_token"))
		wantClaim(t, "two APIs", access, "permissions", other+"#admin", orders+"#read", orders+"#write")

		// An app that is itself the API, and one that has none.
		itself := h.client(t, func(c *Client) { withRights(c); c.ID = "shop" })
		h.inGroup(t, b, "Shop", "shop", "edit")
		a = b.tokens(t, itself, "scope", allRights)
		_, id = claimsOf(t, a.str("id_token"))
		wantClaim(t, "the app itself", id, "permissions", "edit")
		wantClaim(t, "the app itself", id, "roles", "Shop role")
		stranger := h.client(t, withRights)
		_, id = claimsOf(t, b.tokens(t, stranger, "scope", allRights).str("id_token"))
		wantClaim(t, "no API", id, "permissions", "")
		wantClaim(t, "no API", id, "roles", "")

		// Narrowed for one app, by name or id.
		narrow := h.client(t, func(c *Client) {
			withRights(c)
			c.GroupPrefix, c.GroupIDs, c.RolePrefix, c.Audiences = "Sa", true, "X", []string{orders}
		})
		_, id = claimsOf(t, b.tokens(t, narrow, "scope", allRights).str("id_token"))
		sales, err := h.people.GroupNamed(t.Context(), "Sales")
		if err != nil {
			t.Fatal(err)
		}
		wantClaim(t, "narrowed", id, "groups", sales.ID)
		wantClaim(t, "narrowed", id, "roles", "")
	})
}

func TestRightsNeedTheScopeRegistered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		if got := b.authorize(t, h, c.params("scope", "openid groups")).Get("error"); got != "invalid_scope" {
			t.Errorf("groups of an app that is not registered for it: %q, want invalid_scope", got)
		}
		if got := b.authorize(t, h, c.params("claims", `{"userinfo":{"roles":null}}`)).Get("error"); got != "invalid_scope" {
			t.Errorf("the claim roles: %q, want invalid_scope", got)
		}
		c = h.client(t, withRights)
		if w := b.get(h, "/authorize?"+c.params("scope", "openid groups").Encode()); !strings.Contains(w.Header().Get("Location"), "/consent") {
			t.Errorf("groups without consent: sent to %s, want the consent page", w.Header().Get("Location"))
		}
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {"roles"}}), 400, "invalid_scope")
		a := h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}})
		if a.str("scope") != "read write" {
			t.Errorf("scopes without a person by default: %q", a.str("scope"))
		}
	})
}

// What was lost between issue and use is lost (attack: state flipped between issue and use).
func TestAttackRightsLostAfterTheTokenWasIssued(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, api := h.person(t), h.client(t, nil)
		g := h.inGroup(t, b, "Sales", api.ID, "read", "write")
		app := h.client(t, func(c *Client) { withRights(c); c.Audiences = []string{api.ID} })
		a := b.tokens(t, app, "scope", allRights)
		asked := url.Values{"token": {a.str("access_token")}}
		wantClaim(t, "introspection", h.post(t, "/introspect", api, asked).body, "permissions", "read", "write")
		known, err := h.people.API(t.Context(), api.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.people.RemovePermission(t.Context(), "", known.ID, "write"); err != nil {
			t.Fatal(err)
		}
		wantClaim(t, "introspection after one was lost", h.post(t, "/introspect", api, asked).body, "permissions", "read")
		if err := h.people.RemoveMember(t.Context(), "", g.ID, b.user.ID); err != nil {
			t.Fatal(err)
		}
		got := h.post(t, "/introspect", api, asked).body
		if got["active"] != true {
			t.Errorf("the token died with the group: %v", got)
		}
		wantClaim(t, "introspection after all were lost", got, "permissions")
		wantClaim(t, "userinfo", h.userinfoAnswer(t, a.str("access_token")).body, "groups", "")
		a = h.refreshToken(t, app, a.str("refresh_token"))
		_, access := claimsOf(t, a.str("access_token"))
		wantClaim(t, "refreshed access token", access, "permissions")
		_, id := claimsOf(t, a.str("id_token"))
		wantClaim(t, "refreshed ID token", id, "roles", "")
		// A right won later is not in a token that was made before.
		if err := h.people.AddMember(t.Context(), "", g.ID, b.user.ID, false); err != nil {
			t.Fatal(err)
		}
		wantClaim(t, "introspection after one was won", h.post(t, "/introspect", api, url.Values{"token": {a.str("access_token")}}).body, "permissions")
	})
}

func TestAttackClaimsLargerThanAnyHeader(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, app := h.person(t), h.client(t, withRights)
		for i := range 60 {
			h.inGroup(t, b, fmt.Sprintf("%03d %s", i, strings.Repeat("x", 90)), "")
		}
		a := b.tokens(t, app, "scope", allRights)
		_, id := claimsOf(t, a.str("id_token"))
		wantClaim(t, "ID token", id, "groups")
		wantClaim(t, "ID token", id, "roles", "")
		if got, _ := h.userinfoAnswer(t, a.str("access_token")).body["groups"].([]any); len(got) != 60 {
			t.Errorf("userinfo has %d groups, want all 60", len(got))
		}
	})
}

// Pocket ID CVE-2026-43983: group limits that only the authorization endpoint knows of.
func TestAttackGroupLimitForgottenAfterSignIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, api := h.person(t), h.client(t, nil)
		outer, g := h.inGroup(t, h.person(t), "Outer", ""), h.inGroup(t, b, "Inner", "")
		if err := h.people.Nest(t.Context(), "", outer.ID, g.ID); err != nil {
			t.Fatal(err)
		}
		limited := func(c *Client) { c.AllowGroups, c.Audiences = []string{outer.ID}, []string{api.ID} }
		app := h.client(t, limited)
		in := func() {
			t.Helper()
			if err := h.people.AddMember(t.Context(), "", g.ID, b.user.ID, false); err != nil {
				t.Fatal(err)
			}
		}
		out := func() {
			t.Helper()
			if err := h.people.RemoveMember(t.Context(), "", g.ID, b.user.ID); err != nil {
				t.Fatal(err)
			}
		}

		code := b.code(t, app)
		first, second := b.tokens(t, app), b.tokens(t, app)
		if h.userinfoAnswer(t, first.str("access_token")).status != 200 || !h.introspectToken(t, api, first.str("access_token")) {
			t.Fatal("a member cannot use the app")
		}
		first = h.refreshToken(t, app, first.str("refresh_token"))
		if first.status != 200 {
			t.Fatalf("a member cannot refresh: %v", first.body)
		}
		out()
		wantError(t, h.exchangeCode(t, app, code), 400, "invalid_grant")
		wantError(t, h.userinfoAnswer(t, first.str("access_token")), 401, "invalid_token")
		for what, as := range map[string]registered{"by the API": api, "by the app": app} {
			if h.introspectToken(t, as, first.str("access_token")) {
				t.Errorf("introspection %s: active", what)
			}
		}
		if h.introspectToken(t, app, second.str("refresh_token")) {
			t.Error("introspection of the refresh token: active")
		}
		wantError(t, h.refreshToken(t, app, first.str("refresh_token")), 400, "invalid_grant")
		w := b.get(h, "/authorize?"+app.params().Encode())
		if !strings.Contains(w.Header().Get("Location"), "/no-access?i=") {
			t.Errorf("authorize: sent to %s, want the page that says so", w.Header().Get("Location"))
		}
		if q := b.authorize(t, h, app.params("prompt", "none")); q.Get("error") != "access_denied" {
			t.Errorf("prompt=none: %v, want access_denied", q)
		}
		id := must(url.Parse(w.Header().Get("Location"))).Query().Get("i")
		if err := h.Deny(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		w = b.get(h, "/authorize/resume?i="+id)
		if q := must(url.Parse(w.Header().Get("Location"))).Query(); w.Code != http.StatusSeeOther || q.Get("error") != "access_denied" || q.Get("state") != "s" {
			t.Errorf("after the page: %d %v, want access_denied at the app", w.Code, q)
		}

		// Coming back does not revive what was refused meanwhile; what was not used goes on.
		in()
		wantError(t, h.refreshToken(t, app, first.str("refresh_token")), 400, "invalid_grant")
		if a := h.refreshToken(t, app, second.str("refresh_token")); a.status != 200 {
			t.Errorf("a grant that was not refused: %v", a.body)
		}

		// The group goes, and one of its name comes: closed to all, open to nobody.
		again := b.tokens(t, app)
		if err := h.people.DeleteGroup(t.Context(), "", outer.ID); err != nil {
			t.Fatal(err)
		}
		h.inGroup(t, b, "Outer", "")
		wantError(t, h.userinfoAnswer(t, again.str("access_token")), 401, "invalid_token")
		wantError(t, h.refreshToken(t, app, again.str("refresh_token")), 400, "invalid_grant")
		if q := b.authorize(t, h, app.params("prompt", "none")); q.Get("error") != "access_denied" {
			t.Errorf("group made anew: %v, want access_denied", q)
		}
	})
}

// A limit that is set later holds for what was issued before.
func TestAttackGroupLimitSetAfterIssue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		g := h.inGroup(t, h.person(t), "Others", "")
		app := h.client(t, nil)
		a, code := b.tokens(t, app), b.code(t, app)
		limited := app.Client
		limited.AllowGroups = []string{g.ID}
		if err := h.Clients.Update(t.Context(), limited); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.exchangeCode(t, app, code), 400, "invalid_grant")
		wantError(t, h.userinfoAnswer(t, a.str("access_token")), 401, "invalid_token")
		wantError(t, h.refreshToken(t, app, a.str("refresh_token")), 400, "invalid_grant")
		// A client that acts for itself is no person.
		if a := h.post(t, "/token", app, url.Values{"grant_type": {"client_credentials"}}); a.status != 200 {
			t.Errorf("client credentials: %v", a.body)
		}
	})
}

func TestAccessRules(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]AccessRules{
		"a name for an id": {AllowGroups: []string{"Sales"}}, "control character": {GroupPrefix: "a\x00"}, "too long": {RolePrefix: strings.Repeat("x", 200)},
		"too many": {AllowGroups: slices.Repeat([]string{"01890a5d-ac96-774b-bcce-b302099a8057"}, 51)},
	} {
		if a.validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (AccessRules{AllowGroups: []string{"01890a5d-ac96-774b-bcce-b302099a8057"}, GroupPrefix: "Sales "}).validate(); err != nil {
		t.Errorf("good rules: %v", err)
	}
}

// Userinfo of an app that asks for none of it reads nothing of groups and roles.
func TestUserinfoWithoutRightsReadsNoGroups(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, app := h.person(t), h.client(t, withRights)
		plain, asking := b.tokens(t, app), b.tokens(t, app, "scope", allRights)
		drop := `DROP TABLE group_members`
		if h.DB.Engine() == db.Postgres {
			drop += ` CASCADE`
		}
		if _, err := h.DB.Exec(t.Context(), drop); err != nil {
			t.Fatal(err)
		}
		if a := h.userinfoAnswer(t, plain.str("access_token")); a.status != 200 {
			t.Errorf("userinfo without the scopes: %d %v", a.status, a.body)
		}
		if a := h.userinfoAnswer(t, asking.str("access_token")); a.status != 500 {
			t.Errorf("userinfo with them, and no table: %d, want 500", a.status)
		}
	})
}
