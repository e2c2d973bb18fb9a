package main

import (
	"strings"

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
}

func (f *messageFields) apply(c *oauth.Client) {
	set(&c.RequestObjectAlg, f.RequestObjectAlg)
	setList(&c.RequestURIs, f.RequestURI)
	set(&c.RequireRequest, f.RequireRequest)
	set(&c.AnswerAlg, f.AnswerAlg)
	set(&c.UserinfoAlg, f.UserinfoAlg)
	set(&c.SubjectType, f.SubjectType)
	set(&c.SectorURI, f.SectorURI)
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
}
