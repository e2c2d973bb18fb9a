package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type clientCommands struct {
	Create       clientCreate       `cmd:"" help:"Register an app; its secret is printed this once."`
	List         clientList         `cmd:"" help:"List apps."`
	Show         clientShow         `cmd:"" help:"Show everything about an app but its secret."`
	Update       clientUpdate       `cmd:"" help:"Change what is given and leave the rest."`
	RotateSecret clientRotateSecret `cmd:"" help:"Make a new secret, which is printed; the old one works until the next rotation."`
	Token        tokenCommands      `cmd:"" help:"Look after initial access tokens, with which apps register themselves."`
	Trust        trustCommands      `cmd:"" help:"Look after apps that no operator has registered, by the hosts that describe them."`
	Delete       clientDelete       `cmd:"" help:"Remove an app; its tokens fail from then on."`
}

func withClients(t *terminal, s *storage, f func(clients *oauth.Clients) error) error {
	return withData(t, s, func(d *data) error {
		clients, err := oauth.OpenClients(t.ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit, Outbound: outbound.New(outbound.Config{})})
		if err != nil {
			return err
		}
		return f(clients)
	})
}

// clientFields is what create and update may set; what is not given stays nil.
type clientFields struct {
	Name           *string        `help:"Name that people see on the consent page." placeholder:"NAME"`
	Owner          *string        `help:"Who runs the app, in plain words." placeholder:"NAME"`
	RedirectURI    []string       `name:"redirect-uri" help:"Where people come back to; repeat for several." placeholder:"URL" sep:"none"`
	GrantType      []string       `help:"authorization_code, refresh_token, client_credentials, implicit, urn:ietf:params:oauth:grant-type:device_code for devices without a browser, urn:openid:params:grant-type:ciba for apps that reach people without one, urn:ietf:params:oauth:grant-type:token-exchange for services that go on to another API, or urn:ietf:params:oauth:grant-type:jwt-bearer for assertions of other issuers (see gatehouse issuer); repeat." sep:"none" placeholder:"TYPE"`
	ResponseType   []string       `help:"What the app may ask for at once: code, none; under the profile oidc-basic, where the server allows it, also id_token, 'id_token token', 'code id_token', 'code token', 'code id_token token'; repeat." sep:"none" placeholder:"TYPE"`
	Scope          []string       `help:"Scopes the app may ask for; repeat or separate by commas." placeholder:"SCOPE"`
	Audience       []string       `help:"APIs the app may get access tokens for; repeat." placeholder:"URI" sep:"none"`
	AuthMethod     *string        `name:"auth-method" aliases:"token-endpoint-auth-method" help:"client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, or none for an app without a secret." placeholder:"METHOD"`
	IDTokenAlg     *string        `name:"id-token-alg" help:"RS256, ES256 or EdDSA." placeholder:"ALG"`
	FirstParty     *bool          `negatable:"" help:"The operator's own app: people are not asked for consent."`
	RequirePKCE    *bool          `name:"require-pkce" negatable:"" help:"Refuse requests without PKCE."`
	ClientURI      *string        `name:"client-uri" help:"Home page." placeholder:"URL"`
	LogoURI        *string        `name:"logo-uri" help:"Logo." placeholder:"URL"`
	PolicyURI      *string        `name:"policy-uri" help:"Privacy policy." placeholder:"URL"`
	TOSURI         *string        `name:"tos-uri" help:"Terms of service." placeholder:"URL"`
	Contact        []string       `help:"Address of somebody responsible; repeat." placeholder:"EMAIL" sep:"none"`
	DetailsType    []string       `help:"Types of authorization_details the app may ask for; repeat." placeholder:"TYPE" sep:"none"`
	Impersonates   *bool          `negatable:"" help:"The app exchanges tokens without a trace of itself in the new ones; it needs the grant type urn:ietf:params:oauth:grant-type:token-exchange."`
	ExchangeFrom   []string       `help:"An app whose tokens the app may exchange; repeat. Without any it is those of all apps; '' empties the list." sep:"none" placeholder:"ID"`
	OpenAPIs       *bool          `name:"open-apis" negatable:"" help:"The app may ask for any API that is open to apps that registered themselves."`
	Agent          *bool          `negatable:"" help:"The app acts for people without them, as AI agents do: they see it apart at /account/agents and may bound it. The profile mcp implies it."`
	SecurityEvents *bool          `negatable:"" help:"The app may receive security events about people who use it (SSF); it also needs the scope ssf.manage and the grant type client_credentials."`
	RevokesPeople  *bool          `name:"global-token-revocation" negatable:"" help:"The app may end every session and token of anybody; it also needs the scope global_token_revocation and the grant type client_credentials."`
	PostLogoutURI  []string       `name:"post-logout-redirect-uri" help:"Where people may go after signing out; repeat for several." placeholder:"URL" sep:"none"`
	BackLogoutURI  *string        `name:"backchannel-logout-uri" help:"Where the server tells the app that a person signed out." placeholder:"URL"`
	FrontLogoutURI *string        `name:"frontchannel-logout-uri" help:"Page of the app, loaded in a frame where a person signs out." placeholder:"URL"`
	SignInPolicy   *string        `help:"What is enough to sign in for the app, if the server does not demand more: pwd, mfa or phr." enum:"pwd,mfa,phr" placeholder:"LEVEL"`
	AccessTokenTTL *time.Duration `name:"access-token-ttl" help:"Life of its access tokens; 0s for the server's." placeholder:"TIME"`

	Credentials credentialFields  `embed:""`
	Messages    messageFields     `embed:""`
	Backchannel backchannelFields `embed:""`
}

func (f *clientFields) apply(c *oauth.Client) {
	f.Credentials.apply(c)
	f.Messages.apply(c)
	if len(f.GrantType) > 0 && !slices.Contains(f.GrantType, oauth.GrantCIBA) {
		c.Backchannel = oauth.Backchannel{} // of no use without the grant type
	}
	f.Backchannel.apply(c)
	set(&c.Name, f.Name)
	set(&c.Owner, f.Owner)
	set(&c.AuthMethod, f.AuthMethod)
	set(&c.IDTokenAlg, f.IDTokenAlg)
	set(&c.FirstParty, f.FirstParty)
	set(&c.RequirePKCE, f.RequirePKCE)
	set(&c.ClientURI, f.ClientURI)
	set(&c.LogoURI, f.LogoURI)
	set(&c.PolicyURI, f.PolicyURI)
	set(&c.TOSURI, f.TOSURI)
	set(&c.AccessTokenTTL, f.AccessTokenTTL)
	setList(&c.DetailsTypes, f.DetailsType)
	set(&c.Impersonates, f.Impersonates)
	setList(&c.ExchangeFrom, f.ExchangeFrom)
	c.ExchangeFrom = slices.DeleteFunc(c.ExchangeFrom, func(id string) bool { return id == "" })
	set(&c.OpenAPIs, f.OpenAPIs)
	set(&c.Agent, f.Agent)
	set(&c.SecurityEvents, f.SecurityEvents)
	set(&c.RevokesPeople, f.RevokesPeople)
	setPolicy(c, f.SignInPolicy)
	set(&c.BackchannelLogoutURI, f.BackLogoutURI)
	set(&c.FrontchannelLogoutURI, f.FrontLogoutURI)
	setList(&c.PostLogoutRedirectURIs, f.PostLogoutURI)
	setList(&c.RedirectURIs, f.RedirectURI)
	setList(&c.Scopes, f.Scope)
	setList(&c.Audiences, f.Audience)
	setList(&c.Contacts, f.Contact)
	if len(f.GrantType) > 0 {
		c.GrantTypes, c.ResponseTypes = f.GrantType, nil // the response types follow from the grant types
	}
	setList(&c.ResponseTypes, f.ResponseType)
}

// flagOf names the flag that sets what an error of oauth.Client.Validate begins with.
var flagOf = map[string]string{
	"client_id": "id", "client_name": "name", "owner": "owner", "redirect_uri": "redirect-uri", "redirect_uris": "redirect-uri",
	"grant_types": "grant-type", "response_types": "response-type", "scope": "scope", "audiences": "audience",
	"token_endpoint_auth_method": "auth-method", "id_token_signed_response_alg": "id-token-alg", "require_pkce": "require-pkce",
	"client_uri": "client-uri", "logo_uri": "logo-uri", "policy_uri": "policy-uri", "tos_uri": "tos-uri",
	"allow_groups": "allow-group", "group_prefix": "group-prefix", "role_prefix": "role-prefix", "default_acr_values": "sign-in-policy",
	"access_token_ttl": "access-token-ttl", "post_logout_redirect_uris": "post-logout-redirect-uri",
	"backchannel_logout_uri": "backchannel-logout-uri", "frontchannel_logout_uri": "frontchannel-logout-uri",
	"backchannel_token_delivery_mode": "ciba-mode", "backchannel_client_notification_endpoint": "ciba-notification-endpoint",
	"backchannel_authentication_request_signing_alg": "ciba-request-alg", "token_endpoint_auth_signing_alg": "auth-alg", "jwks": "jwks", "jwks_uri": "jwks-uri",
	"tls_client_auth_subject_dn": "tls-client-auth-subject-dn", "tls_client_auth_san_dns": "tls-client-auth-san-dns",
	"tls_client_auth_san_uri": "tls-client-auth-san-uri", "tls_client_auth_san_ip": "tls-client-auth-san-ip",
	"dpop_bound_access_tokens": "dpop", "security_profile": "profile",
	"request_object_signing_alg": "request-object-alg", "request_uris": "request-uri", "require_signed_request_object": "require-signed-request",
	"authorization_signed_response_alg": "answer-alg", "userinfo_signed_response_alg": "userinfo-alg", "subject_type": "subject-type", "sector_identifier_uri": "sector-identifier-uri",
	"introspection_signed_response_alg": "introspection-alg", "default_max_age": "default-max-age",
	"id_token_encrypted_response_alg": "encrypt-id-token", "id_token_encrypted_response_enc": "encrypt-id-token",
	"userinfo_encrypted_response_alg": "encrypt-userinfo", "userinfo_encrypted_response_enc": "encrypt-userinfo",
	"authorization_encrypted_response_alg": "encrypt-answer", "authorization_encrypted_response_enc": "encrypt-answer",
	"introspection_encrypted_response_alg": "encrypt-introspection", "introspection_encrypted_response_enc": "encrypt-introspection",
	"request_object_encryption_alg": "request-object-encryption", "request_object_encryption_enc": "request-object-encryption",
}

// checkClient is Validate in words of the command line.
func checkClient(c oauth.Client) error {
	err := c.Validate()
	if err == nil {
		return nil
	}
	text := err.Error()
	end := strings.IndexAny(text, ": ")
	if end < 0 || flagOf[text[:end]] == "" {
		return err
	}
	return badSetting(flagOf[text[:end]], "%s", strings.TrimLeft(text[end:], ": "))
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func setList(field *[]string, value []string) {
	if len(value) > 0 {
		*field = value
	}
}

// clientSecret is a client with the secret that is shown once.
type clientSecret struct {
	oauth.Client
	Secret string `json:"client_secret,omitempty"`
}

// noClient gives db.ErrNotFound words.
func noClient(err error, id string) error {
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("there is no client %q: `gatehouse client list` shows them all", id)
	}
	return err
}

func writeClient(w io.Writer, c oauth.Client, secret string) {
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("client_id", c.ID)
	row("client_secret", secret)
	row("name", c.Name)
	row("owner", c.Owner)
	row("redirect_uris", strings.Join(c.RedirectURIs, " "))
	row("grant_types", strings.Join(c.GrantTypes, " "))
	if !slices.Equal(c.ResponseTypes, []string{"code"}) {
		row("response_types", strings.Join(c.ResponseTypes, ", "))
	}
	row("scopes", strings.Join(c.Scopes, " "))
	row("audiences", strings.Join(c.Audiences, " "))
	row("origin", c.Origin)
	row("auth_method", c.AuthMethod)
	writeCredentials(row, c)
	writeMessages(row, c)
	writeBackchannel(row, c)
	row("id_token_alg", c.IDTokenAlg)
	row("sign_in_policy", policyOf(c))
	row("first_party", yes(c.FirstParty))
	row("require_pkce", yes(c.RequirePKCE))
	row("client_uri", c.ClientURI)
	row("logo_uri", c.LogoURI)
	row("policy_uri", c.PolicyURI)
	row("tos_uri", c.TOSURI)
	row("post_logout_redirect_uris", strings.Join(c.PostLogoutRedirectURIs, " "))
	row("software_id", c.SoftwareID)
	row("software_version", c.SoftwareVersion)
	row("software_statement", c.SoftwareStatement)
	row("authorization_details_types", strings.Join(c.DetailsTypes, " "))
	if c.Impersonates {
		row("impersonates", yes(true))
	}
	if len(c.ExchangeFrom) > 0 {
		row("exchange_from", strings.Join(c.ExchangeFrom, " "))
	}
	if c.OpenAPIs {
		row("open_apis", yes(true))
	}
	if c.Agent {
		row("agent", yes(true))
	}
	if c.SecurityEvents {
		row("security_events", yes(true))
	}
	if c.RevokesPeople {
		row("global_token_revocation", yes(true))
	}
	row("backchannel_logout_uri", c.BackchannelLogoutURI)
	row("frontchannel_logout_uri", c.FrontchannelLogoutURI)
	row("contacts", strings.Join(c.Contacts, " "))
	if c.AccessTokenTTL != 0 {
		row("access_token_ttl", c.AccessTokenTTL.String())
	}
	writeAccess(w, c)
	row("disabled", yes(c.Disabled))
	row("created", when(c.CreatedAt))
}

type clientCreate struct {
	ID      string       `name:"id" help:"Id of the app; a random one if not given." placeholder:"ID"`
	Fields  clientFields `embed:""`
	Access  clientAccess `embed:""`
	Storage storage      `embed:""`
}

// Run implements the command.
func (c *clientCreate) Run(t *terminal) error {
	client := oauth.Client{ID: c.ID, RequirePKCE: true}
	if err := c.Fields.Credentials.read(); err != nil {
		return err
	}
	c.Fields.apply(&client)
	if err := c.Access.resolve(t, &c.Storage); err != nil {
		return err
	}
	c.Access.apply(&client)
	client = client.WithDefaults()
	draft := client
	draft.ID = cmp.Or(draft.ID, "new")
	if err := checkClient(draft); err != nil {
		return err
	}
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		client, secret, err := clients.Create(t.ctx, client)
		if errors.Is(err, db.ErrConflict) {
			return fmt.Errorf("there is a client %q already: choose another --id, or `gatehouse client update`", c.ID)
		}
		if err != nil {
			return err
		}
		return t.print(clientSecret{client, secret}, func(w io.Writer) {
			writeClient(w, client, secret)
			if secret != "" {
				_, _ = fmt.Fprintf(w, "\n%s\n", secretNote)
			}
		})
	})
}

const secretNote = "Keep the secret now: it is shown this once."

type clientList struct {
	After   string  `help:"Begin behind this id." placeholder:"ID"`
	Limit   int     `help:"Number of apps. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *clientList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		list, err := clients.List(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		return t.print(append([]oauth.Client{}, list...), func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tNAME\tAUTH METHOD\tFIRST PARTY\tDISABLED\tCREATED")
			for _, c := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.Name, c.AuthMethod, yes(c.FirstParty), yes(c.Disabled), when(c.CreatedAt))
			}
			if len(list) == c.Limit {
				more(w, list[c.Limit-1].ID)
			}
		})
	})
}

type clientShow struct {
	ID      string  `arg:"" name:"id" help:"Id of the app."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *clientShow) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		client, err := clients.Get(t.ctx, c.ID)
		if err != nil {
			return noClient(err, c.ID)
		}
		return t.print(client, func(w io.Writer) { writeClient(w, client, "") })
	})
}

type clientUpdate struct {
	ID       string       `arg:"" name:"id" help:"Id of the app."`
	Disabled *bool        `negatable:"" help:"Nobody can sign in through the app, and its tokens fail."`
	Fields   clientFields `embed:""`
	Access   clientAccess `embed:""`
	Storage  storage      `embed:""`
}

// Run implements the command.
func (c *clientUpdate) Run(t *terminal) error {
	if err := c.Fields.Credentials.read(); err != nil {
		return err
	}
	if err := c.Access.resolve(t, &c.Storage); err != nil {
		return err
	}
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		client, err := clients.Get(t.ctx, c.ID)
		if err != nil {
			return noClient(err, c.ID)
		}
		method := client.AuthMethod
		c.Fields.apply(&client)
		c.Access.apply(&client)
		set(&client.Disabled, c.Disabled)
		client = client.WithDefaults()
		if err := checkClient(client); err != nil {
			return err
		}
		if err := clients.Update(t.ctx, client); err != nil {
			return err
		}
		if client, err = clients.Get(t.ctx, c.ID); err != nil {
			return err
		}
		return t.print(client, func(w io.Writer) {
			writeClient(w, client, "")
			if client.HasSecret() && client.AuthMethod != method {
				_, _ = fmt.Fprintf(w, "\nIf it has no secret for its new method: gatehouse client rotate-secret %s\n", c.ID)
			}
		})
	})
}

type clientRotateSecret struct {
	ID      string  `arg:"" name:"id" help:"Id of the app."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *clientRotateSecret) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		secret, err := clients.RotateSecret(t.ctx, c.ID)
		if err != nil {
			return noClient(err, c.ID)
		}
		return t.print(map[string]string{"client_id": c.ID, "client_secret": secret}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "client_id\t%s\nclient_secret\t%s\n\n%s\n", c.ID, secret, secretNote)
		})
	})
}

type clientDelete struct {
	ID      string  `arg:"" name:"id" help:"Id of the app."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *clientDelete) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		if err := clients.Delete(t.ctx, c.ID); err != nil {
			return noClient(err, c.ID)
		}
		return t.print(map[string]string{"deleted": c.ID}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", c.ID) })
	})
}
