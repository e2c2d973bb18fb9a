package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Resource is an API that an app asks to reach by name (RFC 8707), as a consent page shows it.
type Resource struct {
	Identifier string
	Name       string
	Scopes     []identity.APIScope // those it knows, with what they mean
}

// maxResources bounds how many resources one request may name.
const maxResources = 8

// errTargetWidened says that a refresh asked for a resource its grant does not have.
var errTargetWidened = errors.New("resource exceeds the grant")

var errTarget = newError("invalid_target", "The resource is not known, or is not for this client.") // one answer for both: nobody lists our APIs so

// resources are what a request named, without repetition. This server is one of them: its access tokens open userinfo.
type resources []resource

type resource struct {
	identity.API
	self bool // this server
}

// knows reports whether an access token for the resource may carry a scope. One for an API never carries a scope that opens something
// here: the API could come with it to userinfo or to the administration of streams (token redirect).
func (r resource) knows(scope string) bool {
	if r.self {
		return personScope(scope) || scope == scopeGlobalRevocation || scope == scopeSSFManage || scope == scopeSSFRead
	}
	return scope == scopePermissions || r.Knows(scope)
}

func (rs resources) identifiers() []string {
	var list []string
	for _, r := range rs {
		list = append(list, r.Identifier)
	}
	return list
}

func (rs resources) own() bool {
	return slices.ContainsFunc(rs, func(r resource) bool { return r.self })
}

func (rs resources) public() []Resource {
	var list []Resource
	for _, r := range rs {
		if !r.self {
			list = append(list, Resource{r.Identifier, r.Name, r.Scopes})
		}
	}
	return list
}

// resources reads the resource parameters of a request. Which resources a client may have is looked at whenever it asks, not only
// when it was granted them.
func (s *Server) resources(ctx context.Context, client *registration, values []string) (resources, error) {
	var list resources
	for _, v := range values {
		if len(list) == maxResources {
			return nil, newError("invalid_target", "Too many resources.")
		}
		if slices.ContainsFunc(list, func(r resource) bool { return r.Identifier == v }) {
			continue
		}
		r, err := s.resource(ctx, client, v)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func (s *Server) resource(ctx context.Context, client *registration, identifier string) (resource, error) {
	if identifier == s.Site.Issuer() {
		return resource{identity.API{Identifier: identifier}, true}, nil
	}
	if u, err := url.Parse(identifier); !validID(identifier) && (err != nil || !u.IsAbs() || strings.Contains(identifier, "#")) || len(identifier) > maxURILength {
		return resource{}, newError("invalid_target", "The resource is not an absolute URI without fragment.")
	}
	api, err := s.People.Resource(ctx, identifier)
	if errors.Is(err, db.ErrNotFound) {
		return resource{}, errTarget
	}
	if err != nil {
		return resource{}, err
	}
	if !slices.Contains(client.Audiences, identifier) && (!client.OpenAPIs || !api.Open) {
		return resource{}, errTarget
	}
	return resource{API: api}, nil
}

// widened gives a client that may ask for open APIs their scopes as well.
func (s *Server) widened(ctx context.Context, client *registration) (*registration, error) {
	if !client.OpenAPIs {
		return client, nil
	}
	apis, err := s.People.OpenResources(ctx)
	if err != nil {
		return nil, err
	}
	more := *client
	more.narrow = client
	for _, a := range apis {
		for _, scope := range a.Scopes {
			more.Scopes = union(more.Scopes, []string{scope.Name})
		}
	}
	return &more, nil
}

// target is what an access token is made for.
type target struct {
	resources resources
	scopes    []string
}

// aim decides what the access token of a token request is for: what was granted, or the part of it that the request names (RFC 8707
// §2.2). Its scopes are those that were granted and that its resources know.
func (s *Server) aim(ctx context.Context, client *registration, sess *session, granted []string) error {
	st := requestState(ctx)
	asked := sess.Resources
	if len(st.resources) > 0 {
		asked = st.resources
	}
	if len(asked) == 0 {
		apis, err := s.apis(ctx, client, sess, granted)
		if err != nil || len(apis) == 0 {
			return err
		}
		life, err := s.demand(ctx, client, apis)
		if err != nil {
			return err
		}
		st.life = s.live(sess, life)
		return nil
	}
	allowed := sess.Resources
	if len(allowed) == 0 && sess.Subject != "" { // the person was asked about no API by name: what the client has by its registration, and no more
		allowed = append([]string{s.Site.Issuer()}, client.Audiences...)
	}
	if sess.Subject != "" && !containsAll(allowed, asked) {
		return errTarget
	}
	rs, err := s.resources(ctx, client, asked)
	if err != nil {
		return err
	}
	if rs.own() && len(rs) > 1 { // an API could bring the token here (token redirect)
		return newError("invalid_target", "A token for this server is for nobody else: name one resource at a time.")
	}
	t := &target{resources: rs}
	for _, scope := range granted {
		if slices.ContainsFunc(rs, func(r resource) bool { return r.knows(scope) }) {
			t.scopes = append(t.scopes, scope)
		}
	}
	life, err := s.demand(ctx, client, rs.registered())
	if err != nil {
		return err
	}
	if left := st.notAfter.Sub(s.Now()).Truncate(time.Second); !st.notAfter.IsZero() && left < life {
		life = max(left, 0)
	}
	st.target, st.life = t, s.live(sess, life)
	return nil
}

// live sets when the access token ends, which is not beyond its grant, and returns how long that is.
func (s *Server) live(sess *session, life time.Duration) time.Duration {
	now := s.Now().UTC()
	sess.SetExpiresAt(fosite.AccessToken, now.Add(life))
	return sess.GetExpiresAt(fosite.AccessToken).Sub(now)
}

func containsAll(list, items []string) bool {
	return !slices.ContainsFunc(items, func(i string) bool { return !slices.Contains(list, i) })
}

// scopeItems are what is remembered of a consent to one scope: for APIs that were named, each pair of scope and API, so that what was
// allowed at one is not allowed at another. A scope has no space in it.
func (a *authorization) scopeItems(scope string) []string {
	var items []string
	for _, r := range a.resources {
		if !r.self && r.Knows(scope) {
			items = append(items, scope+" "+r.Identifier)
		}
	}
	if items == nil {
		items = []string{scope}
	}
	return items
}

// consentItems are what is remembered of a consent to the request.
func (a *authorization) consentItems() []string {
	var items []string
	for _, scope := range a.consentScopes() {
		items = append(items, a.scopeItems(scope)...)
	}
	for _, r := range a.resources {
		if !r.self {
			items = append(items, " "+r.Identifier) // the API itself, whatever the scope
		}
	}
	return items
}

// ConsentParts takes the items of a consent apart.
func ConsentParts(items []string) (scopes, apis []string) {
	for _, item := range items {
		scope, api, found := strings.Cut(item, " ")
		if found {
			apis = union(apis, []string{api})
		}
		if scope != "" {
			scopes = union(scopes, []string{scope})
		}
	}
	return scopes, apis
}

// ResourceMetadata is the document of RFC 9728 §2, which tells the clients of an API where its access tokens come from.
type ResourceMetadata struct {
	Resource      string   `json:"resource"`
	Servers       []string `json:"authorization_servers"`
	Name          string   `json:"resource_name,omitempty"`
	Scopes        []string `json:"scopes_supported,omitempty"`
	BearerMethods []string `json:"bearer_methods_supported"`
	DetailsTypes  []string `json:"authorization_details_types_supported,omitempty"`
	DPoPAlgs      []string `json:"dpop_signing_alg_values_supported"`
	DPoPRequired  bool     `json:"dpop_bound_access_tokens_required,omitempty"`
	Certificate   bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// NewResourceMetadata describes an API whose access tokens come from an issuer; of the types those are named that are for the API.
func NewResourceMetadata(issuer string, api identity.API, types []DetailsType) ResourceMetadata {
	m := ResourceMetadata{
		Resource: api.Identifier, Servers: []string{issuer}, Name: api.Name, BearerMethods: []string{"header"}, DPoPAlgs: dpopAlgs, DPoPRequired: api.DPoP,
		Certificate: api.Certificate,
	}
	for _, d := range types {
		if slices.Contains(d.APIs, api.Identifier) {
			m.DetailsTypes = append(m.DetailsTypes, d.Type)
		}
	}
	for _, scope := range api.Scopes {
		m.Scopes = append(m.Scopes, scope.Name)
	}
	return m
}

const (
	resourceMetadataPath   = "/resource-metadata/"
	resourceMetadataMaxAge = 5 * time.Minute
)

// resourceMetadata answers GET /resource-metadata/{id}, for APIs that do not want to serve their document themselves: the
// resource_metadata of their challenge (RFC 9728 §5.1) may name this address, or their well-known one redirect to it.
func (s *Server) resourceMetadata(w http.ResponseWriter, r *http.Request) error {
	api, err := s.People.ResourceByID(r.Context(), r.PathValue("id"))
	if errors.Is(err, db.ErrNotFound) {
		writeJSON(w, http.StatusNotFound, rfcError{Code: "not_found", Description: "There is no such API."})
		return nil
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	types, err := s.DetailsTypes().List(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	body, err := json.Marshal(NewResourceMetadata(s.Site.Issuer(), api, types))
	if err != nil {
		return err
	}
	serveDocument(w, r, newDocument(body), resourceMetadataMaxAge)
	return nil
}
