package identity

import (
	"context"
	"net/netip"
	"time"
)

type User struct {
	ID, Email                                string
	EmailVerified                            bool
	Role, Status                             string
	MustChangePassword, HasPassword, HasTOTP bool
	CreatedAt, UpdatedAt, PasswordChangedAt  time.Time
	Profile                                  Profile
}
type Profile struct {
	Name, GivenName, FamilyName, MiddleName, Nickname, PreferredUsername, ProfileURL, Picture, Website, Gender, Birthdate, Zoneinfo, Locale, PhoneNumber string
	PhoneNumberVerified                                                                                                                                  bool
	Address                                                                                                                                              Address
	UpdatedAt                                                                                                                                            time.Time
}
type Address struct{ Formatted, StreetAddress, Locality, Region, PostalCode, Country string }
type NewUser struct {
	Email, Password                   string
	Profile                           Profile
	EmailVerified, MustChangePassword bool
	Role                              string
}

const (
	RoleUser       = "user"
	RoleAdmin      = "admin"
	StatusActive   = "active"
	StatusDisabled = "disabled"
	MinPassword    = 12
	MaxPassword    = 128
	AMRPassword    = "pwd"
	AMROTP         = "otp"
	AMRMFA         = "mfa"
	AMRRecovery    = "rec"
	ACRPassword    = "urn:gatehouse:pwd"
	ACRMFA         = "urn:gatehouse:mfa"
)

func (d *Directory) Create(ctx context.Context, n NewUser) (User, error)         { panic("soon") }
func (d *Directory) User(ctx context.Context, id string) (User, error)           { panic("soon") }
func (d *Directory) UserByEmail(ctx context.Context, email string) (User, error) { panic("soon") }
func (d *Directory) Users(ctx context.Context, after string, limit int) ([]User, error) {
	panic("soon")
}
func (d *Directory) SetStatus(ctx context.Context, id, status string) error { panic("soon") }
func (d *Directory) CheckPassword(ctx context.Context, email, password string, addr netip.Addr) (User, error) {
	panic("soon")
}
func (d *Directory) CheckUserPassword(ctx context.Context, userID, password string, addr netip.Addr) error {
	panic("soon")
}
func (d *Directory) SetPassword(ctx context.Context, userID, password string) error { panic("soon") }
func (d *Directory) ValidatePassword(password string, userInputs ...string) error   { panic("soon") }
func PasswordStrength(password string, userInputs ...string) int                    { panic("soon") }
func (d *Directory) SetProfile(ctx context.Context, userID string, p Profile) error { panic("soon") }
func (d *Directory) Delete(ctx context.Context, id string) error                    { panic("soon") }

type Purpose string

const (
	Verify      Purpose = "verify"
	Reset       Purpose = "reset"
	ChangeEmail Purpose = "change"
)

func (d *Directory) NewLink(ctx context.Context, userID string, purpose Purpose, email string) (token string, err error) {
	panic("soon")
}
func (d *Directory) CheckLink(ctx context.Context, token string, purpose Purpose) (User, error) {
	panic("soon")
}
func (d *Directory) VerifyEmail(ctx context.Context, token string) (User, error) { panic("soon") }
func (d *Directory) ResetPassword(ctx context.Context, token, password string) (User, error) {
	panic("soon")
}
func (d *Directory) ChangeEmail(ctx context.Context, token string) (u User, old string, err error) {
	panic("soon")
}

type Enrolment struct {
	Secret, URL string
	QR          []byte
}

func (d *Directory) BeginTOTP(ctx context.Context, userID, issuerName string) (Enrolment, error) {
	panic("soon")
}
func (d *Directory) ConfirmTOTP(ctx context.Context, userID, code string) (recovery []string, err error) {
	panic("soon")
}
func (d *Directory) CheckTOTP(ctx context.Context, userID, code string) error          { panic("soon") }
func (d *Directory) CheckRecoveryCode(ctx context.Context, userID, code string) error  { panic("soon") }
func (d *Directory) RecoveryCodesLeft(ctx context.Context, userID string) (int, error) { panic("soon") }
func (d *Directory) NewRecoveryCodes(ctx context.Context, userID string) ([]string, error) {
	panic("soon")
}
func (d *Directory) RemoveTOTP(ctx context.Context, userID string) error { panic("soon") }

type Login struct {
	UserID      string
	AMR         []string
	StartedAt   time.Time
	Attempts    int
	Interaction string
}

func (d *Directory) BeginLogin(ctx context.Context, l Login) (ticket string, expires time.Time, err error) {
	panic("soon")
}
func (d *Directory) Login(ctx context.Context, ticket string) (Login, error) { panic("soon") }
func (d *Directory) EndLogin(ctx context.Context, ticket string) error       { panic("soon") }

type Device struct {
	UserAgent string
	Address   netip.Addr
}
type Session struct {
	ID, UserID                                 string
	AuthTime                                   time.Time
	AMR                                        []string
	CreatedAt, LastSeenAt, ExpiresAt           time.Time
	EmailVerified, MustChangePassword, HasTOTP bool
	Role                                       string
	Device                                     Device
}

func (s Session) ACR() string { panic("soon") }
func (d *Directory) StartSession(ctx context.Context, userID string, amr []string, dev Device, oldToken string) (token string, s Session, err error) {
	panic("soon")
}
func (d *Directory) Session(ctx context.Context, token string) (Session, error) { panic("soon") }
func (d *Directory) StepUp(ctx context.Context, s Session, amr []string) (token string, stepped Session, err error) {
	panic("soon")
}
func (d *Directory) Sessions(ctx context.Context, userID string) ([]Session, error) { panic("soon") }
func (d *Directory) EndSession(ctx context.Context, userID, sessionID string) error { panic("soon") }
func (d *Directory) EndSessions(ctx context.Context, userID, exceptSessionID string) (int, error) {
	panic("soon")
}
func (d *Directory) Purge(ctx context.Context) error { panic("soon") }

type argonCost struct{}

var owaspCost argonCost

type hasher struct{}

func newHasher(argonCost, int) *hasher                         { return nil }
func (h *hasher) hash(context.Context, string) (string, error) { panic("soon") }
