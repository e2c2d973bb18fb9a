package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/identity"
)

// Scopes, and claims of the same names, for what a person may do and where they belong. No app is registered for them unless it
// is told so.
const (
	scopeGroups      = "groups"
	scopeRoles       = "roles"
	scopePermissions = "permissions"
)

var rightsScopes = []string{scopeGroups, scopeRoles, scopePermissions}

// personScopes speak of a person: where there is none they are refused.
func personScope(scope string) bool {
	return slices.Contains(standardScopes, scope) || slices.Contains(rightsScopes, scope)
}

// AccessRules say who may use an app, and what it learns of people's groups and roles.
type AccessRules struct {
	AllowGroups []string `json:"allow_groups,omitempty"` // ids of groups, of one of which a person must be; empty: everybody may
	GroupPrefix string   `json:"group_prefix,omitempty"` // the app learns only of groups whose name begins so
	RolePrefix  string   `json:"role_prefix,omitempty"`
	GroupIDs    bool     `json:"group_ids,omitempty"` // it learns their ids, which no other group ever gets, in place of their names
}

func (a AccessRules) validate() error {
	if len(a.AllowGroups) > maxListLength {
		return fmt.Errorf("allow_groups: at most %d", maxListLength)
	}
	for _, id := range a.AllowGroups {
		if _, err := uuid.Parse(id); err != nil { // a name could come to mean another group
			return fmt.Errorf("allow_groups %q: give the id of a group", id)
		}
	}
	for name, prefix := range map[string]string{"group_prefix": a.GroupPrefix, "role_prefix": a.RolePrefix} {
		if len(prefix) > maxNameLength || !printable(prefix) {
			return fmt.Errorf("%s: at most %d printable characters", name, maxNameLength)
		}
	}
	return nil
}

// APIs lists the identifiers of the APIs that an app works with: those it may get access tokens for, or else itself.
func (c Client) APIs() []string {
	if len(c.Audiences) > 0 {
		return c.Audiences
	}
	return []string{c.ID}
}

// mayUse reports whether a person may use an app at this moment. It is asked wherever something is given to the app or believed
// of it, so that whoever leaves the group is out with the next request (state flipped between issue and use). A client
// without limits costs no statement.
func (s *Server) mayUse(ctx context.Context, client Client, userID string) (bool, error) {
	if len(client.AllowGroups) == 0 {
		return true, nil
	}
	return s.People.InGroup(ctx, userID, client.AllowGroups)
}

// checkMayUse is mayUse at the token endpoint. A grant that is refused is over: it does not come back with the membership.
func (s *Server) checkMayUse(ctx context.Context, client Client, userID string) error {
	if userID == "" {
		return nil
	}
	ok, err := s.mayUse(ctx, client, userID)
	if err != nil || ok {
		return err
	}
	if st := requestState(ctx); st.grant != nil {
		if err := s.Grants.revoke(ctx, st.grant.ID); err != nil {
			return err
		}
	}
	return errGrantOver
}

// Bounds on a claim, in bytes of its values: a token must fit into a header. A claim beyond them is left out as a whole, since half of it
// would say that the rest is not there.
const (
	maxTokenRights    = 4 << 10
	maxUserinfoRights = 64 << 10
)

// rights reads what a person has, once in a request.
func (s *Server) rights(ctx context.Context, userID string) (identity.Rights, error) {
	st := requestState(ctx)
	if st.rights != nil && st.rightsOf == userID {
		return *st.rights, nil
	}
	r, err := s.People.Rights(ctx, userID)
	if err != nil {
		return r, err
	}
	st.rights, st.rightsOf = &r, userID
	return r, nil
}

// wantsRights reports whether scopes or single claims ask for any of it.
func wantsRights(scopes, single []string) bool {
	return slices.ContainsFunc(rightsScopes, func(s string) bool { return slices.Contains(scopes, s) || slices.Contains(single, s) })
}

// addRights adds the claims groups, roles and permissions, as far as scopes or single names cover them and the client may learn them,
// by one statement; by none if nobody asks.
func (s *Server) addRights(ctx context.Context, out map[string]any, client Client, userID string, scopes, single []string, limit int) error {
	if !wantsRights(scopes, single) {
		return nil
	}
	r, err := s.rights(ctx, userID)
	if err != nil {
		return err
	}
	for name, values := range map[string][]string{
		scopeGroups: groupNames(r, client), scopeRoles: roleNames(r, client), scopePermissions: permissionNames(r, client.APIs()),
	} {
		if slices.Contains(scopes, name) || slices.Contains(single, name) {
			if values, ok := s.bounded(ctx, client, userID, name, values, limit); ok {
				out[name] = values
			}
		}
	}
	return nil
}

// bounded reports whether a claim may be as long as it is.
func (s *Server) bounded(ctx context.Context, client Client, userID, name string, values []string, limit int) ([]string, bool) {
	size := 0
	for _, v := range values {
		size += len(v) + len(`"",`)
	}
	if size > limit {
		s.Log.WarnContext(ctx, "claim left out: too long", "claim", name, "client_id", client.ID, "user_id", userID)
		return nil, false
	}
	return values, true
}

// groupNames lists the groups that the client may learn of.
func groupNames(r identity.Rights, client Client) []string {
	list := []string{}
	for _, g := range r.Groups {
		switch {
		case !strings.HasPrefix(g.Name, client.GroupPrefix):
		case client.GroupIDs:
			list = append(list, g.ID)
		default:
			list = append(list, g.Name)
		}
	}
	return list
}

// roleNames lists the roles that permit something at one of the client's APIs. Of others it learns nothing.
func roleNames(r identity.Rights, client Client) []string {
	apis, list := client.APIs(), []string{}
	for _, role := range r.Roles {
		if strings.HasPrefix(role.Name, client.RolePrefix) && slices.ContainsFunc(role.APIs, func(api string) bool { return slices.Contains(apis, api) }) {
			list = append(list, role.Name)
		}
	}
	return list
}

// permissionNames lists what is permitted at some APIs: by the bare name if there is one API, else with its identifier before
// it, so that no API takes what was permitted at another for its own (confused deputy).
func permissionNames(r identity.Rights, apis []string) []string {
	list := []string{}
	for _, p := range r.Permissions {
		switch {
		case !slices.Contains(apis, p.API):
		case len(apis) == 1:
			list = append(list, p.Name)
		default:
			list = append(list, p.API+"#"+p.Name)
		}
	}
	return list
}

// tokenPermissions lists what an access token says about its APIs; this server as the audience is none.
func (s *Server) tokenPermissions(ctx context.Context, client Client, userID string, scopes []string, aud audience) ([]string, error) {
	apis := slices.DeleteFunc(slices.Clone([]string(aud)), func(a string) bool { return a == s.Site.Issuer() })
	if userID == "" || len(apis) == 0 || !slices.Contains(scopes, scopePermissions) {
		return nil, nil
	}
	r, err := s.rights(ctx, userID)
	if err != nil {
		return nil, err
	}
	list, _ := s.bounded(ctx, client, userID, scopePermissions, permissionNames(r, apis), maxTokenRights)
	return list, nil
}

// stillPermitted drops what a token says and the person has lost since.
func (s *Server) stillPermitted(ctx context.Context, c *accessClaims) ([]string, error) {
	if len(c.Permissions) == 0 {
		return nil, nil
	}
	now, err := s.tokenPermissions(ctx, Client{ID: c.ClientID}, c.userID, c.scopes(), c.Audience)
	return slices.DeleteFunc(slices.Clone(c.Permissions), func(p string) bool { return !slices.Contains(now, p) }), err
}

// addAttributes adds what the operator maps from custom attributes. No claim that is there already gives way to one.
func (s *Server) addAttributes(ctx context.Context, out map[string]any, clientID, userID string, scopes []string, place identity.ClaimPlace) error {
	more, err := s.attributes(ctx, clientID, userID, scopes, place)
	for name, value := range more {
		if _, taken := out[name]; !taken {
			out[name] = value
		}
	}
	return err
}

// attributes gives the claims of custom attributes for one place. Those that would make a token too long for a header are left out, each as
// a whole: userinfo has them.
func (s *Server) attributes(ctx context.Context, clientID, userID string, scopes []string, place identity.ClaimPlace) (map[string]json.RawMessage, error) {
	more, err := s.People.AttributeClaims(ctx, userID, clientID, scopes, place)
	if err != nil || place == identity.InUserinfo {
		return more, err
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if size += len(name) + len(more[name]) + len(`"":,`); size > maxTokenRights {
			s.Log.WarnContext(ctx, "claim left out: too long", "claim", name, "client_id", clientID, "user_id", userID)
			size -= len(name) + len(more[name]) + len(`"":,`)
			delete(more, name)
		}
	}
	return more, nil
}

// withAttributes is what stands in a token or an answer, and custom attributes beside it. Theirs never stands in the place of another.
func withAttributes(body any, more map[string]json.RawMessage) (any, error) {
	if len(more) == 0 {
		return body, nil
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	for name, value := range more {
		if _, taken := all[name]; !taken {
			all[name] = value
		}
	}
	return all, nil
}
