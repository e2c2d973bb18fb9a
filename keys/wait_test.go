package keys

import (
	"context"
	"errors"
	"testing"
)

// The first RSA key may take long to find; nobody waits for it longer than the request lives.
func TestWaitForFirstKeysIsBounded(t *testing.T) {
	t.Parallel()
	r := &Ring{ready: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Sign(ctx, RS256, "JWT", struct{}{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign: got %v, want context.Canceled", err)
	}
	if _, _, err := r.JWKS(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("JWKS: got %v, want context.Canceled", err)
	}
	if _, err := r.Rotate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Rotate: got %v, want context.Canceled", err)
	}
	if _, err := r.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("List: got %v, want context.Canceled", err)
	}
}
