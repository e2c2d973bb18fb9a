package e2e

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// authenticator is a place for passkeys in a window, as a phone has one. Its owner is there and touches it as soon as it asks.
type authenticator struct {
	w  *window
	id webauthn.AuthenticatorID
}

func (w *window) authenticator() authenticator {
	w.t.Helper()
	w.do("enable WebAuthn", command(webauthn.Enable, webauthn.EnableParams{}))
	made := call(w, "add an authenticator", webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		},
	})
	return authenticator{w, made.AuthenticatorID}
}

// call gives the answer to a protocol command.
func call[P, R any](w *window, what string, c cdp.Command[P, R], params P) R {
	w.t.Helper()
	return ask(w, what, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

// present says whether the owner is there to touch it.
func (a authenticator) present(yes bool) {
	a.w.t.Helper()
	a.w.do("presence", command(webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: yes}))
}

// verified says whether the authenticator recognises who touches it.
func (a authenticator) verified(yes bool) {
	a.w.t.Helper()
	a.w.do("user verification", command(webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: yes}))
}

func (a authenticator) passkeys() []*webauthn.Credential {
	a.w.t.Helper()
	return call(a.w, "list passkeys", webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id}).Credentials
}

// noAutofill makes the window one of a browser that offers no passkeys in the fields of a page, only behind a button.
func (w *window) noAutofill() {
	w.t.Helper()
	call(w, "no autofill", page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `PublicKeyCredential.isConditionalMediationAvailable = async () => false`,
	})
}

// touch presses the passkey button of the page. The answer comes when the authenticator has given it.
func (w *window) touch() {
	w.t.Helper()
	w.do("press the passkey button", chromedp.Click(chromedp.ID("passkey-submit"), chromedp.NodeVisible))
}

func (w *window) signIn(email string) {
	w.t.Helper()
	w.fill("email", email)
	w.fill("password", password)
	w.click("login-submit")
}

// signOut ends the session of the window.
func (w *window) signOut(s *rig.Server) {
	w.t.Helper()
	w.open(s.Issuer + "/logout")
	w.click("logout-confirm")
}

// enrolPasskey gives the signed-in person of a window a passkey in the account pages.
func (w *window) enrolPasskey(s *rig.Server) {
	w.t.Helper()
	w.open(s.Issuer + "/account/passkeys")
	w.click("passkey-new")
	w.touch()
	w.see("recovery-codes")
}

// A person adds a passkey, signs in with nothing but it, sees it in the list, and takes it away.
func TestPasskeyInChromium(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, setup(t))
			newUser(t, s, "ada@example.test")
			w := newWindow(t)
			a := w.authenticator()
			w.noAutofill()
			w.open(s.Issuer + "/login")
			w.shot("01-login")
			w.signIn("ada@example.test")
			w.open(s.Issuer + "/account/passkeys")
			w.shot("02-none")
			w.click("passkey-new")
			w.shot("03-new")

			// An authenticator that does not recognise its owner, and one whose owner turns away.
			a.verified(false)
			w.touch()
			w.read("passkey-status", "Nothing came of it. Try again when you are ready.")
			w.shot("04-failed")
			a.verified(true)
			w.touch()
			w.see("recovery-codes")
			w.shot("05-codes")
			made := a.passkeys()
			if len(made) != 1 || !made[0].IsResidentCredential || made[0].RpID != "localhost" || made[0].UserName != "ada@example.test" {
				t.Fatalf("the authenticator holds %+v", made)
			}

			// The same authenticator again.
			w.open(s.Issuer + "/account/passkeys/new")
			w.touch()
			w.read("passkey-status", "This device has a passkey for your account already.")
			w.shot("06-known")
			if n := len(a.passkeys()); n != 1 {
				t.Errorf("the authenticator holds %d passkeys", n)
			}

			w.signOut(s)
			w.open(s.Issuer + "/login")
			w.touch()
			w.see("sign-out")
			w.open(s.Issuer + "/account/passkeys")
			if got := w.see("passkeys"); strings.Contains(got, "never") {
				t.Errorf("the list says %q after a use", got)
			}
			w.shot("07-list")

			w.do("open", chromedp.Click(chromedp.CSS("#passkeys summary"), chromedp.NodeVisible))
			w.shot("08-change")
			w.do("remove", chromedp.Click(chromedp.CSS("#passkeys .danger"), chromedp.NodeVisible))
			w.see("done")
			w.shot("09-removed")
			w.signOut(s)
			w.open(s.Issuer + "/login")
			w.touch()
			w.see("summary") // the authenticator has not heard of it
			w.forgive("Failed to load resource")
			w.shot("10-refused")
			w.signIn("ada@example.test") // and the password is enough again
			w.see("sign-out")
		})
	}
}

// Conditional mediation: the browser offers the passkey where the address is typed, and no button is pressed (WebAuthn L3 §5.1.4).
func TestPasskeyAutofillInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	newUser(t, s, "ada@example.test")
	w := newWindow(t)
	a := w.authenticator()
	w.open(s.Issuer + "/login")
	w.signIn("ada@example.test")
	w.enrolPasskey(s)
	w.signOut(s)

	a.present(false)
	w.open(s.Issuer + "/login")
	w.fill("email", "somebody@example.test") // the page can be used meanwhile
	a.present(true)
	w.open(s.Issuer + "/login")
	w.see("sign-out")
	w.signOut(s)

	// A press on the button takes over from the offer that waits.
	a.present(false)
	w.open(s.Issuer + "/login")
	w.touch()
	a.present(true)
	w.see("sign-out")
}

func TestPasskeyAsSecondStepInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	newUser(t, s, "ada@example.test")
	w := newWindow(t)
	a := w.authenticator()
	w.noAutofill()
	w.open(s.Issuer + "/login")
	w.signIn("ada@example.test")
	w.enrolPasskey(s)
	w.signOut(s)
	w.open(s.Issuer + "/login")
	w.signIn("ada@example.test")
	w.see("passkey-submit")
	w.shot("1-second-step")
	a.verified(false)
	w.touch()
	w.read("passkey-status", "Nothing came of it. Try again when you are ready.")
	w.shot("2-failed")
	a.verified(true)
	w.touch()
	w.see("sign-out")
}

// An app demands a passkey (RFC 9470): of somebody who has none, who is led to make one, and of a session by password and code.
func TestStepUpToPasskeyInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	newUser(t, s, "ada@example.test")
	app := newCallback(t, "127.0.0.1", "")
	client, err := s.NewClient(t.Context(), "Bank", app.url)
	if err != nil {
		t.Fatal(err)
	}
	demand := url.Values{"acr_values": {"urn:gatehouse:phr"}}
	w := newWindow(t)
	w.authenticator()
	w.noAutofill()
	w.open(authorizeURL(s, client, demand))
	w.signIn("ada@example.test")
	w.see("step-up-passkey")
	w.shot("1-step-up")
	w.click("step-up-passkey")
	w.touch()
	codes := strings.Fields(w.see("recovery-codes"))
	w.click("codes-saved")
	w.click("consent-allow")
	w.see("back")
	if got := <-app.sent; got.Get("code") == "" {
		t.Errorf("the app was called with %v, want a code", got)
	}

	w.signOut(s)
	w.open(s.Issuer + "/login")
	w.signIn("ada@example.test")
	w.see("passkey-submit")
	w.click("recovery-link")
	w.fill("code", codes[0])
	w.click("code-submit")
	w.open(authorizeURL(s, client, demand))
	w.see("passkey-submit")
	if w.has("email") || w.has("recovery-link") {
		t.Error("asks for more or for less than the passkey")
	}
	w.shot("2-passkey")
	w.touch()
	w.see("back")
	if got := <-app.sent; got.Get("code") == "" {
		t.Errorf("the app was called with %v, want a code", got)
	}
}
