package oauth

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestGrantedTellsAllButTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b, other := h.client(t, nil), h.person(t), h.person(t)
		other.tokens(t, c)
		a := b.tokens(t, c)
		list, err := h.Grants.Granted(t.Context(), b.user.ID)
		if err != nil || len(list) != 1 {
			t.Fatalf("got %v, %v; want the person's one grant", list, err)
		}
		g := list[0]
		if g.ClientID != c.ID || g.SessionID != b.session.ID || len(g.Scopes) == 0 || g.CreatedAt.IsZero() || !g.RevokedAt.IsZero() {
			t.Errorf("got %+v", g)
		}
		raw, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(raw); strings.Contains(text, "hash") || strings.Contains(text, a.str("refresh_token")) || !strings.Contains(text, "auth_time") {
			t.Errorf("got %s", text)
		}
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		if list, err = h.Grants.Granted(t.Context(), b.user.ID); err != nil || len(list) != 1 || list[0].RevokedAt.IsZero() {
			t.Errorf("ended: got %+v, %v; want it as revoked", list, err)
		}
	})
}
