package main

import (
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// messageFields is how the messages between a client and the server are protected.
type messageFields struct {
	RequestObjectAlg *string  `name:"request-object-alg" aliases:"request-object-signing-alg" help:"The one algorithm of its signed requests: RS256, PS256, ES256 or EdDSA." placeholder:"ALG"`
	RequestURI       []string `name:"request-uri" help:"Where it publishes signed requests; repeat for several." placeholder:"URL" sep:"none"`
	RequireRequest   *bool    `name:"require-signed-request" negatable:"" help:"Refuse authorization requests that are not signed (RFC 9101)."`
	SubjectType      *string  `help:"public, or pairwise: the app knows people under names of its own." placeholder:"TYPE"`
	SectorURI        *string  `name:"sector-identifier-uri" help:"List of redirect URIs of the apps that share pairwise names; needed if they are on several hosts." placeholder:"URL"`
	UserinfoAlg      *string  `name:"userinfo-alg" aliases:"userinfo-signed-response-alg" help:"Sign what /userinfo answers: RS256, ES256 or EdDSA; empty for plain JSON." placeholder:"ALG"`
	AnswerAlg        *string  `name:"answer-alg" aliases:"authorization-signed-response-alg" help:"Algorithm of signed answers, if it asks for them (JARM): RS256, ES256 or EdDSA; without it that of ID tokens." placeholder:"ALG"`
	IntrospectionAlg *string  `name:"introspection-alg" aliases:"introspection-signed-response-alg" help:"Algorithm of signed introspection answers: RS256, ES256 or EdDSA; without it that of ID tokens." placeholder:"ALG"`

	EncryptIDToken       *string        `name:"encrypt-id-token" help:"Encrypt ID tokens and logout tokens to its key: ALG or ALG/ENC, such as ECDH-ES+A256KW/A256GCM; empty for no encryption." placeholder:"ALG/ENC"`
	EncryptUserinfo      *string        `name:"encrypt-userinfo" help:"The same for what /userinfo answers." placeholder:"ALG/ENC"`
	EncryptAnswer        *string        `name:"encrypt-answer" help:"The same for signed answers (JARM)." placeholder:"ALG/ENC"`
	EncryptIntrospection *string        `name:"encrypt-introspection" help:"The same for signed introspection answers." placeholder:"ALG/ENC"`
	DefaultMaxAge        *time.Duration `name:"default-max-age" help:"People sign in anew if they did so longer ago than this, unless a request says otherwise; a negative time for never." placeholder:"TIME"`

	RequestEncryption *string `name:"request-object-encryption" help:"How it says it may encrypt its signed requests; all that the server knows is good." placeholder:"ALG/ENC"`
}

func (f *messageFields) apply(c *oauth.Client) {
	set(&c.RequestObjectAlg, f.RequestObjectAlg)
	setList(&c.RequestURIs, f.RequestURI)
	set(&c.RequireRequest, f.RequireRequest)
	set(&c.AnswerAlg, f.AnswerAlg)
	set(&c.UserinfoAlg, f.UserinfoAlg)
	set(&c.SubjectType, f.SubjectType)
	set(&c.SectorURI, f.SectorURI)
	set(&c.IntrospectionAlg, f.IntrospectionAlg)
	if f.DefaultMaxAge != nil {
		c.DefaultMaxAge = nil
		if seconds := int64(*f.DefaultMaxAge / time.Second); seconds >= 0 {
			c.DefaultMaxAge = &seconds
		}
	}
	setEncryption(&c.IDTokenKeyAlg, &c.IDTokenEnc, f.EncryptIDToken)
	setEncryption(&c.UserinfoKeyAlg, &c.UserinfoEnc, f.EncryptUserinfo)
	setEncryption(&c.AnswerKeyAlg, &c.AnswerEnc, f.EncryptAnswer)
	setEncryption(&c.IntrospectionKeyAlg, &c.IntrospectionEnc, f.EncryptIntrospection)
	setEncryption(&c.RequestObjectKeyAlg, &c.RequestObjectEnc, f.RequestEncryption)
}

// setEncryption takes ALG/ENC apart. Without ENC the default of the specifications is used.
func setEncryption(alg, enc, value *string) {
	if value != nil {
		*alg, *enc, _ = strings.Cut(*value, "/")
	}
}

func encryption(alg, enc string) string {
	if enc == "" {
		return alg
	}
	return alg + "/" + enc
}

// writeMessages shows what is set.
func writeMessages(row func(name, value string), c oauth.Client) {
	row("request_object_alg", c.RequestObjectAlg)
	row("request_uris", strings.Join(c.RequestURIs, " "))
	if c.RequireRequest {
		row("require_signed_request", yes(true))
	}
	row("subject_type", c.SubjectType)
	row("sector_identifier_uri", c.SectorURI)
	row("userinfo_alg", c.UserinfoAlg)
	row("answer_alg", c.AnswerAlg)
	row("introspection_alg", c.IntrospectionAlg)
	if c.DefaultMaxAge != nil {
		row("default_max_age", (time.Duration(*c.DefaultMaxAge) * time.Second).String())
	}
	row("encrypt_id_token", encryption(c.IDTokenKeyAlg, c.IDTokenEnc))
	row("encrypt_userinfo", encryption(c.UserinfoKeyAlg, c.UserinfoEnc))
	row("encrypt_answer", encryption(c.AnswerKeyAlg, c.AnswerEnc))
	row("encrypt_introspection", encryption(c.IntrospectionKeyAlg, c.IntrospectionEnc))
	row("request_object_encryption", encryption(c.RequestObjectKeyAlg, c.RequestObjectEnc))
}
