package oauth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/keys"
)

// metadata is the document of OpenID Connect Discovery §3 and RFC 8414 §2; both well-known addresses answer with it. It
// lists what works and nothing else.
type metadata struct {
	Issuer                   string   `json:"issuer"`
	AuthorizationEndpoint    string   `json:"authorization_endpoint"`
	TokenEndpoint            string   `json:"token_endpoint"`
	DeviceEndpoint           string   `json:"device_authorization_endpoint"`       // RFC 8628 §4
	BackchannelEndpoint      string   `json:"backchannel_authentication_endpoint"` // CIBA §4
	DeliveryModes            []string `json:"backchannel_token_delivery_modes_supported"`
	BackchannelAlgs          []string `json:"backchannel_authentication_request_signing_alg_values_supported"`
	BackchannelUserCode      bool     `json:"backchannel_user_code_parameter_supported"`
	UserinfoEndpoint         string   `json:"userinfo_endpoint"`
	RevocationEndpoint       string   `json:"revocation_endpoint"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	EndSessionEndpoint       string   `json:"end_session_endpoint"`
	JWKSURI                  string   `json:"jwks_uri"`
	ScopesSupported          []string `json:"scopes_supported"`
	ResponseTypesSupported   []string `json:"response_types_supported"`
	ResponseModesSupported   []string `json:"response_modes_supported"`
	GrantTypesSupported      []string `json:"grant_types_supported"`
	SubjectTypesSupported    []string `json:"subject_types_supported"`
	IDTokenAlgs              []string `json:"id_token_signing_alg_values_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs            []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs       []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAuthAlgs    []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	IntrospectionSigningAlgs []string `json:"introspection_signing_alg_values_supported"` // RFC 9701 §7
	CodeChallengeMethods     []string `json:"code_challenge_methods_supported"`
	ACRValues                []string `json:"acr_values_supported"`
	PromptValues             []string `json:"prompt_values_supported"`
	ClaimTypes               []string `json:"claim_types_supported"`
	ClaimsSupported          []string `json:"claims_supported"`
	UILocales                []string `json:"ui_locales_supported"`
	ClaimsParameter          bool     `json:"claims_parameter_supported"`
	RequestParameter         bool     `json:"request_parameter_supported"`
	RequestURIParameter      bool     `json:"request_uri_parameter_supported"`
	RequestURIRegistered     bool     `json:"require_request_uri_registration"`
	RequestObjectAlgs        []string `json:"request_object_signing_alg_values_supported"`
	UserinfoAlgs             []string `json:"userinfo_signing_alg_values_supported"`
	AnswerAlgs               []string `json:"authorization_signing_alg_values_supported"` // JARM §4
	ResponseIssuer           bool     `json:"authorization_response_iss_parameter_supported"`

	// How messages can be encrypted: keys, and content.
	IDTokenKeyAlgs       []string `json:"id_token_encryption_alg_values_supported"`
	IDTokenEncs          []string `json:"id_token_encryption_enc_values_supported"`
	UserinfoKeyAlgs      []string `json:"userinfo_encryption_alg_values_supported"`
	UserinfoEncs         []string `json:"userinfo_encryption_enc_values_supported"`
	RequestObjectKeyAlgs []string `json:"request_object_encryption_alg_values_supported"`
	RequestObjectEncs    []string `json:"request_object_encryption_enc_values_supported"`
	AnswerKeyAlgs        []string `json:"authorization_encryption_alg_values_supported"`
	AnswerEncs           []string `json:"authorization_encryption_enc_values_supported"`
	IntrospectionKeyAlgs []string `json:"introspection_encryption_alg_values_supported"`
	IntrospectionEncs    []string `json:"introspection_encryption_enc_values_supported"`

	Aliases             map[string]string `json:"mtls_endpoint_aliases,omitempty"` // RFC 8705 §5
	GlobalRevocation    string            `json:"global_token_revocation_endpoint"`
	BackchannelLogout   bool              `json:"backchannel_logout_supported,omitempty"`
	BackchannelSession  bool              `json:"backchannel_logout_session_supported,omitempty"`
	FrontchannelLogout  bool              `json:"frontchannel_logout_supported,omitempty"`
	FrontchannelSession bool              `json:"frontchannel_logout_session_supported,omitempty"`
	CheckSession        string            `json:"check_session_iframe,omitempty"`

	ClientDocuments      bool   `json:"client_id_metadata_document_supported,omitempty"`
	RegistrationEndpoint string `json:"registration_endpoint,omitempty"`

	PushedEndpoint   string   `json:"pushed_authorization_request_endpoint"`
	RequirePushed    bool     `json:"require_pushed_authorization_requests"`
	DPoPAlgs         []string `json:"dpop_signing_alg_values_supported"`
	CertificateBound bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

const metadataMaxAge = time.Hour

// document is something public that changes seldom, with its ETag.
type document struct {
	body []byte
	etag string
}

func newDocument(body []byte) document {
	sum := sha256.Sum256(body)
	return document{body, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}

func (s *Server) buildMetadata() (document, error) {
	claims := []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid"}
	var personal []string
	for name := range claimScope {
		personal = append(personal, name)
	}
	slices.Sort(personal)
	methods := append([]string{AuthBasic, AuthPost, AuthPrivateKeyJWT, AuthSecretJWT}, s.Certificates.methods()...)
	withNone := append(slices.Clone(methods), AuthNone)
	algs := slices.Concat(assertionAlgs, secretAlgs)
	grants := grantTypes
	if s.LegacyResponseTypes {
		grants = append(slices.Clone(grants), GrantImplicit)
		claims = append(claims, "c_hash")
	}
	registration, checkSession := "", ""
	if s.Site.Watched() {
		checkSession = s.Site.URL(CheckSessionPath)
	}
	if s.registers() {
		registration = s.Site.URL(registrationPath)
	}
	body, err := json.Marshal(metadata{
		Issuer:                   s.Site.Issuer(),
		AuthorizationEndpoint:    s.Site.URL("/authorize"),
		TokenEndpoint:            s.Site.URL("/token"),
		DeviceEndpoint:           s.Site.URL("/device_authorization"),
		BackchannelEndpoint:      s.Site.URL("/bc-authorize"),
		DeliveryModes:            s.deliveryModes(),
		BackchannelAlgs:          requestObjectAlgs,
		UserinfoEndpoint:         s.Site.URL("/userinfo"),
		RevocationEndpoint:       s.Site.URL("/revoke"),
		IntrospectionEndpoint:    s.Site.URL("/introspect"),
		EndSessionEndpoint:       s.Site.URL("/logout"), // a page: see ui
		JWKSURI:                  s.Site.URL("/jwks"),
		ScopesSupported:          slices.Concat(standardScopes, rightsScopes),
		ResponseTypesSupported:   s.responseTypeNames(),
		ResponseModesSupported:   responseModes,
		GrantTypesSupported:      grants,
		SubjectTypesSupported:    []string{"public", SubjectPairwise},
		IDTokenAlgs:              signingAlgs,
		TokenAuthMethods:         withNone,
		TokenAuthAlgs:            algs,
		RevocationAuthMethods:    withNone,
		RevocationAuthAlgs:       algs,
		IntrospectionAuthMethods: methods,
		IntrospectionAuthAlgs:    algs,
		IntrospectionSigningAlgs: signingAlgs,
		CodeChallengeMethods:     []string{"S256"},
		ACRValues:                identity.ACRs(),
		PromptValues:             []string{"none", "login", "consent", "select_account"},
		ClaimTypes:               []string{"normal"},
		ClaimsSupported:          append(claims, personal...),
		UILocales:                []string{"en", "de", "fr", "es", "ja", "ar"}, // the languages of ui
		ClaimsParameter:          true,
		RequestParameter:         true,
		RequestURIParameter:      s.Outbound != nil,
		RequestURIRegistered:     true,
		RequestObjectAlgs:        requestObjectAlgs,
		AnswerAlgs:               signingAlgs,
		UserinfoAlgs:             signingAlgs,
		ResponseIssuer:           true,
		IDTokenKeyAlgs:           keys.KeyAlgs,
		IDTokenEncs:              keys.ContentAlgs,
		UserinfoKeyAlgs:          keys.KeyAlgs,
		UserinfoEncs:             keys.ContentAlgs,
		RequestObjectKeyAlgs:     keys.KeyAlgs,
		RequestObjectEncs:        keys.ContentAlgs,
		AnswerKeyAlgs:            keys.KeyAlgs,
		AnswerEncs:               keys.ContentAlgs,
		IntrospectionKeyAlgs:     keys.KeyAlgs,
		IntrospectionEncs:        keys.ContentAlgs,
		ClientDocuments:          s.SelfRegistered.Documents,
		RegistrationEndpoint:     registration,
		PushedEndpoint:           s.Site.URL("/par"),
		RequirePushed:            s.RequirePAR,
		DPoPAlgs:                 dpopAlgs,
		CertificateBound:         s.Certificates.enabled(),
		Aliases:                  s.aliases(),
		GlobalRevocation:         s.Site.URL("/global-token-revocation"),
		BackchannelLogout:        s.Outbox != nil,
		BackchannelSession:       s.Outbox != nil,
		FrontchannelLogout:       s.Outbox != nil,
		FrontchannelSession:      s.Outbox != nil,
		CheckSession:             checkSession,
	})
	return newDocument(body), err
}

// aliases names the endpoints that clients with a certificate use where asking for certificates needs an address of its own:
// browsers would show people a dialog.
func (s *Server) aliases() map[string]string {
	base := s.Certificates.URL
	if base == "" || !s.Certificates.enabled() {
		return nil
	}
	return map[string]string{
		"token_endpoint": base + "/token", "revocation_endpoint": base + "/revoke", "device_authorization_endpoint": base + "/device_authorization",
		"introspection_endpoint": base + "/introspect", "pushed_authorization_request_endpoint": base + "/par", "userinfo_endpoint": base + "/userinfo",
		"backchannel_authentication_endpoint": base + "/bc-authorize",
	}
}

// wellKnown answers both metadata addresses.
func (s *Server) wellKnown(w http.ResponseWriter, r *http.Request) error {
	types, err := s.DetailsTypes().List(r.Context())
	if err != nil || len(types) == 0 {
		serveDocument(w, r, s.metadata, metadataMaxAge) // the rest of it is true without the database
		return nil
	}
	var names []string
	for _, d := range types {
		names = append(names, d.Type)
	}
	more, err := json.Marshal(map[string][]string{"authorization_details_types_supported": names})
	if err != nil {
		return err
	}
	whole := append(bytes.TrimSuffix(slices.Clone(s.metadata.body), []byte("}")), ',')
	serveDocument(w, r, newDocument(append(whole, more[1:]...)), metadataMaxAge)
	return nil
}

// jwks answers GET /jwks (RFC 7517). Clients may keep it for as long as a new key is announced before its first use.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) error {
	body, etag, err := s.Keys.JWKS(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	serveDocument(w, r, document{body, etag}, s.Keys.MaxAge())
	return nil
}

func serveDocument(w http.ResponseWriter, r *http.Request, d document, maxAge time.Duration) {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(maxAge.Seconds())))
	h.Set("ETag", d.etag)
	if r.Header.Get("If-None-Match") == d.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Type"] = jsonType
	_, _ = w.Write(d.body)
}
