package oauth

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// GrantDeviceCode is the grant type of devices without a browser or a keyboard (RFC 8628 §3.4).
const GrantDeviceCode = "urn:ietf:params:oauth:grant-type:device_code"

// devicesAtOnce bounds the new requests from one network per decoupledLife.
const devicesAtOnce = 60

// userCodeLetters leaves out vowels, so that no code is a word, and the letters that are taken for digits (RFC 8628 §6.1).
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// Device tells a page who waits for a person's decision: a device, or an app that asks without a browser of the person.
type Device struct {
	UserCode  string // as the device shows it, "WDJB-MJHT"; "" of an app
	Address   string // from where the device asked
	Browser   string // its User-Agent header
	Message   string // of an app: what it shows to the person as well (CIBA's binding_message)
	CreatedAt time.Time
}

func userCodeKey(code string) string { return "user-code:" + code }

// newUserCode gives eight letters out of twenty: 2.5e10 codes, of which a stranger may try ten in five minutes.
func newUserCode() string {
	code := make([]byte, 0, userCodeLength)
	for len(code) < userCodeLength {
		var b [1]byte
		_, _ = rand.Read(b[:])                                // never fails (crypto/rand)
		if n := int(b[0]); n < 256-256%len(userCodeLetters) { // every letter is as likely as the others
			code = append(code, userCodeLetters[n%len(userCodeLetters)])
		}
	}
	return string(code)
}

// normalUserCode forgives what people do to a code as they type it: case, dashes, spaces. ok is false for what cannot be one.
func normalUserCode(typed string) (code string, ok bool) {
	if len(typed) > 64 {
		return "", false
	}
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '_' || r == '.' || r == '\u00a0' || r == '\u2013' || r == '\u2011' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	return code, len(code) == userCodeLength && !strings.ContainsFunc(code, func(r rune) bool { return !strings.ContainsRune(userCodeLetters, r) })
}

func showUserCode(code string) string { return code[:userCodeLength/2] + "-" + code[userCodeLength/2:] }

// deviceAuthorization is the answer of RFC 8628 §3.2.
type deviceAuthorization struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// deviceAuthorization answers POST /device_authorization (RFC 8628 §3.1).
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.beginDevice(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) beginDevice(r *http.Request) (*deviceAuthorization, error) {
	form, err := bodyForm(r)
	if err != nil {
		return nil, err
	}
	ctx := withState(r.Context(), &state{})
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return nil, err
	}
	client, err := s.widened(ctx, requestState(ctx).client)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(client.GrantTypes, GrantDeviceCode) {
		return nil, newError("unauthorized_client", "The client is not registered for the device grant.")
	}
	// Anybody can name a public client: what one network can leave here is bounded.
	wait, err := s.Cache.Allow(ctx, "devices:"+web.Network(ctx), devicesAtOnce, decoupledLife)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, newError("temporarily_unavailable", "Too many requests from this network.")
	}
	d, code, err := s.newDecoupled(ctx, GrantDeviceCode, client, form)
	if err != nil {
		return nil, err
	}
	d.Browser = cut(web.UserAgent(ctx), 300)
	if address := web.Address(ctx); address.IsValid() {
		d.Address = address.String()
	}
	if d.UserCode, err = s.claimUserCode(ctx, d.key); err != nil {
		return nil, err
	}
	if err := s.saveDecoupled(ctx, d); err != nil {
		return nil, err
	}
	page := s.Site.URL("/device")
	return &deviceAuthorization{
		DeviceCode: code, UserCode: showUserCode(d.UserCode), VerificationURI: page,
		VerificationURIComplete: page + "?user_code=" + showUserCode(d.UserCode),
		ExpiresIn:               int(d.Life.Seconds()), Interval: int(pollInterval.Seconds()),
	}, nil
}

// userCodeTries is how often a code is made anew that another device shows already; once is rare.
const userCodeTries = 5

// claimUserCode makes a user code that leads to a request, and to no other that waits: who types it must not let another device in.
func (s *Server) claimUserCode(ctx context.Context, key string) (string, error) {
	for range userCodeTries {
		code := newUserCode()
		first, err := s.Cache.PutNew(ctx, userCodeKey(code), []byte(key), decoupledLife)
		if first || err != nil {
			return code, err
		}
	}
	return "", newError("temporarily_unavailable", "Too many devices are waiting. Try again.")
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// BeginDevice takes the code that a person typed and returns the interaction in which they sign in and decide, or
// db.ErrNotFound for a code that no device shows (any more). The caller bounds the tries.
func (s *Server) BeginDevice(ctx context.Context, typed string) (interactionID string, err error) {
	code, ok := normalUserCode(typed)
	if !ok {
		return "", db.ErrNotFound
	}
	key, ok, err := s.Cache.Get(ctx, userCodeKey(code))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", db.ErrNotFound
	}
	return s.beginDecoupled(ctx, string(key))
}
