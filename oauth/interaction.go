package oauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// ConsentTextVersion names the wording of the consent page that is recorded with each consent; raise it with the text.
const ConsentTextVersion = "2026-11"

// interaction is the record of a request that waits for a person. It lives in the cache and is deleted with the answer.
type interaction struct {
	ID         string     `json:"-"`
	Form       url.Values `json:"form"`
	CreatedAt  time.Time  `json:"created_at"`
	ConsentBy  string     `json:"consent_by,omitempty"`  // the person who allowed this very request
	SelectedBy string     `json:"selected_by,omitempty"` // the session that was chosen (prompt=select_account)
	Denied     bool       `json:"denied,omitempty"`      // the person refused
	Unproven   bool       `json:"unproven,omitempty"`    // the person did not prove what is demanded
	Reason     string     `json:"reason,omitempty"`
	Budget     *Budget    `json:"budget,omitempty"` // laid on it by the person
	Pushed     string     `json:"pushed,omitempty"` // key of the pushed request that it answers

	saved bool
}

// Each request of a stranger who is not signed in is remembered for an hour; these bounds keep anybody from filling the memory
// with them.
const (
	maxRequest         = 12 << 10 // bytes of the parameters that are kept
	interactionsAtOnce = 600      // new ones from one network per interactionsWindow
	interactionsWindow = 10 * time.Minute
)

// requestParameters are those that are read at some time; no other is kept.
var requestParameters = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "code_challenge", "code_challenge_method",
	"nonce", "prompt", "max_age", "claims", "id_token_hint", "login_hint", "ui_locales", "acr_values",
	"dpop_jkt", "authorization_details",
	"registration", // refused
}

// keepRequest drops what nobody reads from a request's parameters and refuses more than anybody needs.
func keepRequest(form url.Values) (url.Values, error) {
	kept, size := url.Values{}, 0
	for _, name := range requestParameters {
		if v := form.Get(name); v != "" {
			kept.Set(name, v)
			size += len(v)
		}
	}
	if all := form["resource"]; len(all) > 0 {
		kept["resource"] = all
		for _, v := range all {
			size += len(v)
		}
	}
	if size > maxRequest {
		return nil, newError("invalid_request", "The request is too long.")
	}
	return kept, nil
}

func interactionKey(id string) string { return "interaction:" + id }

// newInteraction begins one; it is stored only if the person has to act. Its id ends in the app's, so that the way back to
// the app is known even when the record is gone.
func (s *Server) newInteraction(req *authorization) *interaction {
	id := strings.ToLower(rand.Text())
	if !documentURL(req.client.ID) {
		id += "." + req.client.ID
	}
	return &interaction{ID: id, Form: req.form, CreatedAt: s.Now().UTC().Truncate(time.Microsecond)}
}

func (s *Server) saveInteraction(ctx context.Context, in *interaction) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode interaction: %w", err)
	}
	if !in.saved {
		if err := s.spendInteraction(ctx); err != nil {
			return err
		}
	}
	in.saved = true
	return s.Cache.Put(ctx, interactionKey(in.ID), b, s.InteractionTTL)
}

// InteractionOver says that a request has been answered or has expired. It is a db.ErrNotFound.
type InteractionOver struct {
	Client Client // the app that asked; the zero Client if that is not known
}

// Error implements error.
func (*InteractionOver) Error() string { return "the request has been answered or has expired" }

// Is makes it a db.ErrNotFound for errors.Is.
func (*InteractionOver) Is(target error) bool { return target == db.ErrNotFound }

func (s *Server) over(ctx context.Context, id string) error {
	_, clientID, _ := strings.Cut(id, ".")
	client, err := s.Clients.Get(ctx, clientID)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	return &InteractionOver{client}
}

func (s *Server) loadInteraction(ctx context.Context, id string) (*interaction, error) {
	if id == "" || len(id) > 192 {
		return nil, &InteractionOver{}
	}
	b, ok, err := s.Cache.Get(ctx, interactionKey(id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, s.over(ctx, id)
	}
	in := &interaction{ID: id, saved: true}
	if err := json.Unmarshal(b, in); err != nil {
		return nil, fmt.Errorf("decode interaction: %w", err)
	}
	return in, nil
}

func (s *Server) endInteraction(ctx context.Context, in *interaction) error {
	if !in.saved {
		return nil
	}
	return s.Cache.Delete(ctx, interactionKey(in.ID))
}

// ResumePath is where a page sends the person when its step is done.
func (s *Server) ResumePath(id string) string {
	return s.Site.Path("/authorize/resume?i=" + url.QueryEscape(id))
}

// Interaction tells a page what it is asked for. userID is the signed-in person, "" if there is none. It returns
// an *InteractionOver if the request has been answered or has expired.
func (s *Server) Interaction(ctx context.Context, id, userID string) (Interaction, error) {
	in, req, err := s.waiting(ctx, id)
	if err != nil {
		return Interaction{}, err
	}
	out := Interaction{
		ID: id, Client: req.client.Client, Scopes: req.consentScopes(), NewScopes: req.consentScopes(), LoginHint: req.form.Get("login_hint"),
		UILocales: strings.Fields(req.form.Get("ui_locales")), Prompt: req.prompt, ACRValues: strings.Fields(req.form.Get("acr_values")),
		AppScheme: appScheme(req.redirect), Reason: in.Reason, CreatedAt: in.CreatedAt, Agent: isAgent(req.client.Client),
	}
	if req.maxAge >= 0 {
		out.MaxAge = &req.maxAge
	}
	out.Stranger, out.Resources = strangerOf(req), req.resources.public()
	if out.Details, err = s.publicDetails(ctx, req); err != nil {
		return Interaction{}, err
	}
	if d := req.decoupled; d != nil {
		out.Device = &Device{Address: d.Address, Browser: d.Browser, Message: d.Message, CreatedAt: d.CreatedAt}
		if d.Grant == GrantDeviceCode {
			out.Device.UserCode = showUserCode(d.UserCode)
		}
	}
	if userID != "" {
		remembered, err := s.Consents.List(ctx, userID)
		if err != nil {
			return Interaction{}, err
		}
		for _, c := range remembered {
			if c.ClientID == req.client.ID {
				out.NewScopes = slices.DeleteFunc(slices.Clone(out.Scopes), func(scope string) bool { return containsAll(c.Scopes, req.scopeItems(scope)) })
			}
		}
	}
	return out, nil
}

// strangerOf tells what a person must know of an app that no operator has registered.
func strangerOf(req *authorization) *Stranger {
	if !req.client.SelfMade() {
		return nil
	}
	out := &Stranger{Host: req.client.Host(), Approved: req.client.approved}
	if u, err := url.Parse(req.redirect); err == nil {
		switch {
		case u.Scheme == "https":
			out.Goes = u.Host
		case u.Scheme == "http":
			out.Here = true
		default:
			out.Goes, out.Here = u.Scheme+":", true
		}
	}
	return out
}

// waiting loads an interaction and checks its request anew: the client may have changed since.
func (s *Server) waiting(ctx context.Context, id string) (*interaction, *authorization, error) {
	in, err := s.loadInteraction(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	req, err := s.parseAuthorization(ctx, in.Form)
	if err != nil {
		if describe(err).status < http.StatusInternalServerError {
			return nil, nil, s.over(ctx, id)
		}
		return nil, nil, err
	}
	req.interaction = in
	return in, req, nil
}

// appScheme is the private-use scheme (RFC 8252 §7.1) of a redirect to a program, with its colon.
func appScheme(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme == "https" || u.Scheme == "http" {
		return ""
	}
	return u.Scheme + ":"
}

// Approve records that the person of sess allowed the request, for now and for later ones that ask no more.
func (s *Server) Approve(ctx context.Context, id string, sess identity.Session) error {
	in, req, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	if err := s.Clients.keep(ctx, req.client); err != nil {
		return err
	}
	if err := s.Consents.Remember(ctx, sess.UserID, req.client.ID, req.consentItems(), ConsentTextVersion); err != nil {
		return err
	}
	in.ConsentBy, in.Denied = sess.UserID, false
	return s.saveInteraction(ctx, in)
}

// Deny records that the person refused. The app hears of it when the person resumes: no answer to a form may lead to the app
// (see ui's onward).
func (s *Server) Deny(ctx context.Context, id string) error {
	in, _, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	in.Denied = true
	return s.saveInteraction(ctx, in)
}

// SelectAccount records that the person chose to go on with this session.
func (s *Server) SelectAccount(ctx context.Context, id string, sess identity.Session) error {
	in, _, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	in.SelectedBy = sess.ID
	return s.saveInteraction(ctx, in)
}

// Apps lists the apps a person let in.
func (s *Server) Apps(ctx context.Context, userID string) ([]App, error) {
	remembered, err := s.Consents.List(ctx, userID)
	if err != nil {
		return nil, err
	}
	uses, err := s.Grants.lastUsed(ctx, userID)
	if err != nil {
		return nil, err
	}
	var apps []App
	add := func(clientID string, scopes []string, since, used time.Time) error {
		client, err := s.Clients.Get(ctx, clientID)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		scopes, resources := ConsentParts(scopes)
		apps = append(apps, App{Client: client, Scopes: scopes, Resources: resources, Since: since, LastUsed: used})
		return err
	}
	for _, c := range remembered {
		use := uses[c.ClientID]
		delete(uses, c.ClientID)
		if err := add(c.ClientID, union(c.Scopes, use.Scopes), c.GrantedAt, use.UsedAt); err != nil {
			return nil, err
		}
	}
	for id, use := range uses { // first-party apps need no consent
		if err := add(id, use.Scopes, use.CreatedAt, use.UsedAt); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(apps, func(a, b App) int {
		return strings.Compare(strings.ToLower(a.Client.Name), strings.ToLower(b.Client.Name))
	})
	return apps, nil
}

// Withdraw takes a person's consent back: the app must ask again, its refresh tokens are void and its live access
// tokens fail at every endpoint of this server. An app that does not exist is db.ErrNotFound: each invented id would
// leave a mark behind (storage exhaustion).
func (s *Server) Withdraw(ctx context.Context, userID, clientID string) error {
	if _, err := s.Clients.Get(ctx, clientID); err != nil {
		return err
	}
	if err := s.DB.Tx(ctx, func(ctx context.Context) error {
		if err := s.Consents.Forget(ctx, userID, clientID); err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		if err := s.Outbox.leave(ctx, userID, clientID); err != nil {
			return err
		}
		return s.Grants.endApp(ctx, userID, clientID)
	}); err != nil {
		return err
	}
	// Once more, for what was issued on the consent that was there until the transaction was committed.
	return s.Grants.endApp(ctx, userID, clientID)
}
