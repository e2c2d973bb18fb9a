package main

import (
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/audit"
)

func TestAuditListTellsTheChain(t *testing.T) {
	t.Parallel()
	for want, detail := range map[string]map[string]string{
		"":                        {"from_client": "app"},
		"orders acting for alice": {"acting": "orders"},
		"mail acting for alice through orders, app": {"acting": "mail", "through": "orders app"},
	} {
		if got := chainOf(audit.Entry{UserID: "alice", Detail: detail}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
