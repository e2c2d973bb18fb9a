package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const (
	// mailCodeLength signs of recoveryAlphabet are 40 bits: short enough to type, far too many for the tries there are.
	mailCodeLength = 8

	// mailCodeTries wrong codes void a code, and mailCodesPerDay are sent to one person. Together they stay below
	// codesPerDay, so that a stranger who asks for codes and types nonsense cannot use up the tries of a person's
	// authenticator app.
	mailCodeTries   = 3
	mailCodesPerDay = 12
)

// MailCode is a sign-in by a code from a mail, as it begins. Ticket is for the cookie of the browser that asked: the code works
// nowhere else. Code is empty if none may be sent; nothing that a stranger sees may tell the two apart (account enumeration).
type MailCode struct {
	Ticket  string
	Expires time.Time
	Code    string
	To      User // whom the address belongs to; without ID: nobody
}

// mailCode is what is kept of it, until it is used, voided or too old.
type mailCode struct {
	UserID      string    `json:"user_id"` // "" if no code was sent: every code is wrong then
	Email       string    `json:"email"`   // as it was typed, to be shown again
	Index       []byte    `json:"index"`   // of the address that the code went to
	Code        []byte    `json:"code"`    // keyed hash
	StartedAt   time.Time `json:"started_at"`
	Interaction string    `json:"interaction"`
}

// BeginMailCode begins a sign-in by mail for whoever has an address. People get a code if their account is active (or closing)
// and the address is proven: a code would otherwise open to the holder of a mailbox an account whose password somebody
// else has chosen (account pre-hijacking). Whom To names without a Code may be sent a link to set a new password instead.
func (d *Directory) BeginMailCode(ctx context.Context, email, interaction string) (MailCode, error) {
	index := d.emailIndex(email)
	u, err := d.UserByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return MailCode{}, err
	}
	wait, err := d.cache.Allow(ctx, "mail-codes:"+hex.EncodeToString(index), mailCodesPerDay, 24*time.Hour)
	if err != nil {
		return MailCode{}, fmt.Errorf("begin sign-in by mail: %w", err)
	}
	ticket, hash := newToken()
	code, now := newMailCode(), d.now()
	kept := mailCode{Email: email, Index: index, StartedAt: now, Interaction: interaction, Code: d.mailCodeHash(hash, "", code)}
	begun := MailCode{Ticket: ticket, Expires: now.Add(d.linkLife.Code), To: u}
	if wait == 0 && u.EmailVerified && (u.Status == StatusActive || u.Status == StatusClosing) {
		kept.UserID, kept.Code = u.ID, d.mailCodeHash(hash, u.ID, code)
		begun.Code = code
	}
	value, err := json.Marshal(kept)
	if err != nil {
		return MailCode{}, fmt.Errorf("begin sign-in by mail: %w", err)
	}
	if err := d.cache.Put(ctx, mailCodeKey(hash), value, d.linkLife.Code); err != nil {
		return MailCode{}, fmt.Errorf("begin sign-in by mail: %w", err)
	}
	return begun, nil
}

// MailCodeEmail gives the address that was typed when the sign-in behind a ticket began, or ErrNotFound.
func (d *Directory) MailCodeEmail(ctx context.Context, ticket, interaction string) (string, error) {
	m, _, err := d.mailCode(ctx, ticket, interaction)
	return m.Email, err
}

// EndMailCode forgets a sign-in by mail that was given up; an absent one is no error.
func (d *Directory) EndMailCode(ctx context.Context, ticket string) error {
	if !validToken(ticket) {
		return nil
	}
	if err := d.cache.Delete(ctx, mailCodeKey(hashToken(ticket))); err != nil {
		return fmt.Errorf("end sign-in by mail: %w", err)
	}
	return nil
}

// CheckMailCode signs in, with one factor, whom the code behind a ticket was sent to, and uses it up: of callers at once one
// gets the person. Every try counts against the person, together with those of CheckTOTP and CheckRecoveryCode, before it is
// looked at. A right code does not clear that count, as those do: whoever reads a person's mail would get tries at the second
// factor without end. ErrCode; ErrNotFound if there is no such sign-in or it is over; *LimitError, after which it is over too.
func (d *Directory) CheckMailCode(ctx context.Context, ticket, interaction, code string) (User, error) {
	m, hash, err := d.mailCode(ctx, ticket, interaction)
	if err != nil {
		return User{}, err
	}
	who := m.UserID
	if who == "" { // nobody's tries run out like anybody's
		who = "nobody:" + hex.EncodeToString(m.Index)
	}
	err = d.spend(ctx, "mail-code-tries:"+hex.EncodeToString(hash), mailCodeTries, 24*time.Hour)
	if err == nil {
		err = d.spendCode(ctx, who)
	}
	if err != nil {
		return User{}, errors.Join(err, d.EndMailCode(ctx, ticket))
	}
	if subtle.ConstantTimeCompare(d.mailCodeHash(hash, m.UserID, code), m.Code) != 1 || m.UserID == "" {
		d.audit.Record(ctx, audit.Event{Action: "mail_code.check", Outcome: audit.Failure, UserID: m.UserID})
		return User{}, ErrCode
	}
	_, first, err := d.cache.Take(ctx, mailCodeKey(hash))
	if err != nil {
		return User{}, fmt.Errorf("use up mail code: %w", err)
	}
	if !first {
		return User{}, ErrNotFound
	}
	u, err := d.User(ctx, m.UserID)
	if err != nil {
		return User{}, err
	}
	// What has changed since the mail was sent: another address, another password, a closed account.
	over := u.Status != StatusActive && u.Status != StatusClosing ||
		subtle.ConstantTimeCompare(d.emailIndex(u.Email), m.Index) != 1 || !u.EmailVerified || u.PasswordChangedAt.After(m.StartedAt)
	if !over && u.Status == StatusClosing {
		reason, err := d.closed(ctx, u.ID)
		if err != nil {
			return User{}, err
		}
		over = reason != ""
	}
	if over {
		d.audit.Record(ctx, audit.Event{Action: "mail_code.check", Outcome: audit.Failure, UserID: u.ID})
		return User{}, fmt.Errorf("the account has changed: %w", ErrNotFound)
	}
	d.audit.Record(ctx, audit.Event{Action: "mail_code.check", Actor: u.ID, UserID: u.ID})
	return u, nil
}

func (d *Directory) mailCode(ctx context.Context, ticket, interaction string) (m mailCode, hash []byte, err error) {
	if !validToken(ticket) {
		return m, nil, ErrNotFound
	}
	hash = hashToken(ticket)
	value, ok, err := d.cache.Get(ctx, mailCodeKey(hash))
	if err != nil {
		return m, nil, fmt.Errorf("read sign-in by mail: %w", err)
	}
	if !ok {
		return m, nil, ErrNotFound
	}
	if err := json.Unmarshal(value, &m); err != nil {
		return m, nil, fmt.Errorf("read sign-in by mail: %w", err)
	}
	if m.Interaction != interaction {
		return m, nil, ErrNotFound
	}
	return m, hash, nil
}

func mailCodeKey(hash []byte) string { return "mail-code:" + hex.EncodeToString(hash) }

// newMailCode looks like "4K9F-2MX7".
func newMailCode() string {
	var raw [mailCodeLength]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	for i, b := range raw {
		raw[i] = recoveryAlphabet[b%32] // 256 is a multiple of 32: no bias
	}
	code := strings.ToUpper(string(raw[:]))
	return code[:mailCodeLength/2] + "-" + code[mailCodeLength/2:]
}

// mailCodeHash is what is kept of a code. It holds for one browser, one person and this one purpose.
func (d *Directory) mailCodeHash(ticket []byte, userID, code string) []byte {
	return seal.MAC(d.mailCodeKey, "sign-in", hex.EncodeToString(ticket), userID, normalCode(code, mailCodeLength))
}
