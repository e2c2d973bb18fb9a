package oauth

import (
	"context"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// state is what the parts of one request share. fosite's storage interfaces have one method per row it would like to
// keep; here they fill or read this one record, which is written in one trip.
type state struct {
	client      *registration // named or authenticated by this request
	pkceExcused bool

	code     *codeRecord // being issued, or claimed
	codeKey  string
	issuedAt time.Time // of a code that is being issued
	jkt      string    // key that must redeem it

	front *frontAnswer // tokens that come with the redirect; nil: at the token endpoint

	confirmation *confirmation // what the sender holds; nil: nothing

	grant     *grant   // being created, or just rotated
	successor string   // refresh token that the answer hands out
	scopes    []string // scope parameter of a refresh request

	resources []string      // resource parameters of a token request
	notAfter  time.Time     // when the access token ends at the latest; zero: it does not matter
	life      time.Duration // of the access token, where it is not the client's; 0: it is
	opaque    bool          // the access token is sealed, not signed
	details   details       // of the access token
	subject   *accessClaims // whose token is exchanged
	target    *target       // what the access token is for, if it was asked for by name

	rights   *identity.Rights // read before in this request
	rightsOf string
}

type stateKey struct{}

func withState(ctx context.Context, st *state) context.Context {
	return context.WithValue(ctx, stateKey{}, st)
}

// requestState returns the record that the endpoint put into ctx.
func requestState(ctx context.Context) *state {
	st, _ := ctx.Value(stateKey{}).(*state)
	if st == nil {
		return &state{}
	}
	return st
}
