package identity

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// sent gives the tokens of the invitations that are mailed now, by address.
func (w *world) sent(t *testing.T) map[string]string {
	t.Helper()
	tokens := map[string]string{}
	wantNil(t, "send", w.SendSignUpInvitations(t.Context(), func(_ context.Context, inv SignUpInvitation, token string) error {
		tokens[inv.Email] = token
		return nil
	}))
	return tokens
}

func TestInvitation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		inv, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "Ada@EXAMPLE.com", Role: RoleAdmin, Language: "de"}, 48*time.Hour, "cli")
		wantNil(t, "invite", err)
		if inv.ExpiresAt.Sub(w.now()) != 48*time.Hour || inv.Sent {
			t.Errorf("invited: %+v", inv)
		}
		_, err = w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "cli")
		wantErr(t, "invite twice", err, ErrInvited)
		token := w.sent(t)["Ada@example.com"]
		if len(w.sent(t)) != 0 {
			t.Error("the mail goes out twice")
		}
		list, err := w.SignUpInvitations(t.Context(), "", 0)
		if err != nil || len(list) != 1 || !list[0].Sent || list[0].Email != "Ada@example.com" || list[0].Language != "de" {
			t.Errorf("list: %+v, %v", list, err)
		}
		for range 2 { // mail scanners
			got, err := w.CheckSignUpInvitation(t.Context(), token)
			if err != nil || got.Email != "Ada@example.com" {
				t.Errorf("check: %+v, %v", got, err)
			}
		}
		_, err = w.AcceptSignUpInvitation(t.Context(), token, "Ada", "short")
		wantField(t, "accept with a bad password", err, "password", KeyPasswordShort)
		u, err := w.AcceptSignUpInvitation(t.Context(), token, "Ada", goodPassword)
		wantNil(t, "accept", err)
		if u.Role != RoleAdmin || !u.EmailVerified || u.MustChangePassword || u.Profile.Name != "Ada" || u.Email != "Ada@example.com" {
			t.Errorf("account: %+v", u)
		}
		_, err = w.CheckPassword(t.Context(), "ada@example.com", goodPassword, home)
		wantNil(t, "sign in", err)
		_, err = w.CheckSignUpInvitation(t.Context(), token)
		wantErr(t, "check used", err, ErrInvitationUsed)
		_, err = w.AcceptSignUpInvitation(t.Context(), token, "Eve", otherPassword)
		wantErr(t, "accept used", err, ErrInvitationUsed)
		_, err = w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "cli")
		wantErr(t, "invite somebody with an account", err, ErrEmailTaken)
		if rows := w.audited(t); !slices.Contains(rows, "invitation.create success ") || !slices.Contains(rows, "invitation.accept success "+u.ID) {
			t.Errorf("audited %v", rows)
		}
		// Nothing is left of the address, and in time nothing at all.
		var kept int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM invitations WHERE email_index IS NOT NULL OR sealed IS NOT NULL`).Scan(&kept))
		w.pass(48*time.Hour + signUpKept)
		wantNil(t, "purge", w.Purge(t.Context()))
		var all int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM invitations`).Scan(&all))
		if kept != 0 || all != 0 {
			t.Errorf("%d addresses and %d rows kept", kept, all)
		}
	})
}

func TestInvitationRefusals(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "nobody"}, 0, "")
		wantField(t, "address", err, "email", KeyEmailInvalid)
		_, err = w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "a@example.com", Role: "owner"}, 0, "")
		wantField(t, "role", err, "role", KeyRoleInvalid)
		_, err = w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "a@example.com", Language: "!"}, 0, "")
		wantField(t, "language", err, "locale", KeyLocaleInvalid)
		wantErr(t, "revoke none", w.RevokeSignUpInvitation(t.Context(), "a@example.com", ""), ErrNotFound)
		_, err = w.ResendSignUpInvitation(t.Context(), "a@example.com", 0, "")
		wantErr(t, "resend none", err, ErrNotFound)
		inv, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "a@example.com"}, 1000*24*time.Hour, "")
		if err != nil || inv.ExpiresAt.Sub(w.now()) != MaxInvitationLife {
			t.Errorf("for years: %+v, %v", inv, err)
		}
	})
}

// authentik CVE-2025-64708: an invitation ends when it says so.
func TestAttackInvitationAfterItsTime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite", err)
		token := w.sent(t)["ada@example.com"]
		w.pass(7 * 24 * time.Hour)
		_, err = w.AcceptSignUpInvitation(t.Context(), token, "", goodPassword)
		wantErr(t, "accept expired", err, ErrInvitationExpired)
		_, err = w.UserByEmail(t.Context(), "ada@example.com")
		wantErr(t, "account", err, ErrNotFound)
		// One that is over is in nobody's way.
		_, err = w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite again", err)
		if w.sent(t)["ada@example.com"] == "" {
			t.Error("no new mail")
		}
	})
}

func TestAttackRevokedOrReplacedInvitation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite", err)
		first := w.sent(t)["ada@example.com"]
		_, err = w.ResendSignUpInvitation(t.Context(), "ADA@example.com", time.Hour, "")
		wantNil(t, "resend", err)
		_, err = w.CheckSignUpInvitation(t.Context(), first)
		wantErr(t, "the older link", err, ErrLink)
		second := w.sent(t)["ada@example.com"]
		_, err = w.CheckSignUpInvitation(t.Context(), second)
		wantNil(t, "the newer link", err)
		wantNil(t, "revoke", w.RevokeSignUpInvitation(t.Context(), "ada@example.com", ""))
		_, err = w.AcceptSignUpInvitation(t.Context(), second, "", goodPassword)
		wantErr(t, "revoked", err, ErrLink)
	})
}

func TestAttackInvitationAcceptedTwiceAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite", err)
		token := w.sent(t)["ada@example.com"]
		won := race(t, ErrLink, func() error {
			_, err := w.AcceptSignUpInvitation(t.Context(), token, "", goodPassword)
			if errors.Is(err, ErrBusy) {
				return ErrLink
			}
			return err
		})
		if won != 1 {
			t.Errorf("%d accounts by one invitation, want 1", won)
		}
	})
}

// A link is for the address it was mailed to: whoever signs up with that address meanwhile gets no rights by it, and a link
// of another kind opens nothing.
func TestAttackInvitationForAnotherAccount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com", Role: RoleAdmin}, 0, "")
		wantNil(t, "invite", err)
		token := w.sent(t)["ada@example.com"]
		u := w.create(t, "ada@example.com") // anybody, unproven
		_, err = w.AcceptSignUpInvitation(t.Context(), token, "", otherPassword)
		wantErr(t, "accept", err, ErrEmailTaken)
		if u, err = w.User(t.Context(), u.ID); err != nil || u.Role != RoleUser || u.EmailVerified {
			t.Errorf("the other account: %+v, %v", u, err)
		}
		for _, purpose := range []Purpose{Verify, Reset, ChangeEmail} {
			_, err = w.CheckLink(t.Context(), token, purpose)
			wantErr(t, "as a link to "+string(purpose), err, ErrLink)
			link, err := w.NewLink(t.Context(), u.ID, purpose, "")
			wantNil(t, "link", err)
			_, err = w.CheckSignUpInvitation(t.Context(), link)
			wantErr(t, "a link to "+string(purpose)+" as an invitation", err, ErrLink)
		}
	})
}

// A stolen database shows neither addresses nor links.
func TestAttackInvitationsInAStolenDatabase(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite", err)
		token := w.sent(t)["ada@example.com"]
		wantNil(t, "read", w.db.Query(t.Context(), func(row db.Scanner) error {
			var index, sealed, hash []byte
			if err := row.Scan(&index, &sealed, &hash); err != nil {
				return err
			}
			for _, b := range [][]byte{index, sealed, hash} {
				if slices.Contains([]string{"ada@example.com", token}, string(b)) || len(b) == 0 {
					t.Errorf("stored in the clear: %q", b)
				}
			}
			return nil
		}, `SELECT email_index, sealed, token_hash FROM invitations`))
	})
}

func TestInvitationThatMailRefusesIsDueAgain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.InviteToSignUp(t.Context(), SignUpInvitation{Email: "ada@example.com"}, 0, "")
		wantNil(t, "invite", err)
		full := errors.New("queue is full")
		wantErr(t, "send", w.SendSignUpInvitations(t.Context(), func(context.Context, SignUpInvitation, string) error { return full }), full)
		if len(w.sent(t)) != 1 {
			t.Error("the invitation was lost")
		}
	})
}
