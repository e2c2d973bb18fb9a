package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

const bob = "bob@example.com"

// member gives a browser in which a person with a proven address has just signed in.
func (w *world) member(t testing.TB, email string) (*browser, identity.User) {
	t.Helper()
	u := w.person(t, email)
	b := w.browser(t)
	b.signIn(email).want(http.StatusOK, "sign-out")
	return b, u
}

// signInTwoStep signs a browser in by password and code.
func (b *browser) signInTwoStep(email, code string) page {
	b.t.Helper()
	return b.press(b.signIn(email).want(http.StatusOK, "code"), "code-submit", map[string]string{"code": code})
}

// stale lets the proof of every session grow too old for what needs a fresh one.
func (w *world) stale() { w.clock.forward(freshness + time.Second) }

func (w *world) user(t testing.TB, id string) identity.User {
	t.Helper()
	u, err := w.people.User(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// at fails unless the browser has ended up on a path.
func (p page) at(path string) page {
	p.t.Helper()
	if got := p.url.RequestURI(); got != path {
		p.t.Fatalf("at %s (%d), want %s; it says:\n%s", got, p.status, path, p.text())
	}
	return p
}

func TestOverview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	b.get("/account").want(http.StatusOK).
		says("signed in as "+alice, "Turn on two-step sign-in.", "You are signed in on this device only.", "No app has access")
	if err := w.people.SetProfile(t.Context(), u.ID, identity.Profile{GivenName: "Ada"}); err != nil {
		t.Fatal(err)
	}
	w.enrol(t, u)
	p := b.get("/account").says("Hello, Ada", "10 recovery codes left.")
	forbidden(t, p.text(), "attention")
}

func TestAttackAccountWithoutSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, route := range w.pages.accountRoutes() {
		method, path, _ := strings.Cut(route.Pattern, " ")
		if strings.HasPrefix(path, "/inbox") || route.Pattern == "GET /account/email/link" {
			continue
		}
		p := w.browser(t).roundTrip(method, path, nil, http.Header{"Sec-Fetch-Site": {"same-origin"}})
		if p.status != http.StatusSeeOther || p.header.Get("Location") != "/login" {
			t.Errorf("%s without a session: %d to %q, want 303 to /login", route.Pattern, p.status, p.header.Get("Location"))
		}
	}
}

func TestAttackAccountByAnotherSitesForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	for _, route := range w.pages.accountRoutes() {
		method, path, _ := strings.Cut(route.Pattern, " ")
		if method != http.MethodPost {
			continue
		}
		for _, header := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}} {
			p := b.roundTrip(method, path, url.Values{"name": {"Mallory"}}, header)
			p.want(http.StatusForbidden, "error-page")
		}
	}
}

// Every page of the account is written to be neither kept nor framed, and holds no script but for the strength meter's.
func TestAccountPagesAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	g, err := w.people.CreateGroup(t.Context(), "", "Team Berlin", "")
	if err == nil {
		err = w.people.AddMember(t.Context(), "", g.ID, u.ID, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range w.pages.accountRoutes() {
		method, path, _ := strings.Cut(route.Pattern, " ")
		if method != http.MethodGet || strings.HasPrefix(path, "/inbox") {
			continue
		}
		path = strings.Replace(path, "/groups/{id}", "/groups/"+g.ID, 1)
		p := b.get(path)
		if p.status != http.StatusOK && path != "/account/email/link" {
			t.Errorf("%s: status %d", path, p.status)
		}
		if g := p.header.Get("Cache-Control"); g != "no-store" {
			t.Errorf("%s: Cache-Control %q", path, g)
		}
		csp := p.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			strings.Contains(csp, "script-src") != (path == "/account/password" || path == "/account/passkeys/new") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		forbidden(t, p.body, "<script>", "style=", "onclick", "[account", "[claim", "%!")
	}
}

func TestUnprovenAddressComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	b.signIn(alice).at("/verify")
	for _, path := range []string{"/account", "/account/profile", "/account/two-step/setup", "/account/sessions"} {
		b.get(path).at("/verify")
	}
	// A typing mistake in the address can be mended.
	b.get("/account/email").want(http.StatusOK, "email-submit")
}

func TestOneTimePasswordComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password, EmailVerified: true, MustChangePassword: true}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	b.signIn(alice)
	for _, path := range []string{"/account", "/account/email", "/account/two-step/setup", "/confirm"} {
		b.get(path).at("/password/new")
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	want := identity.Profile{
		Name: "Ada King Lovelace", GivenName: "Ada", FamilyName: "Lovelace", MiddleName: "King", Nickname: "Ada", PreferredUsername: "ada",
		ProfileURL: "https://ada.example/me", Picture: "https://ada.example/me.png", Website: "https://ada.example", Gender: "female",
		Birthdate: "1815-12-10", Zoneinfo: "Europe/London", Locale: "en-GB", PhoneNumber: "+442071234567",
		Address: identity.Address{
			Formatted: "Ada Lovelace\n12 St James's Square\nLondon", StreetAddress: "12 St James's Square", Locality: "London", Region: "England",
			PostalCode: "SW1Y 4LB", Country: "United Kingdom",
		},
	}
	fields := map[string]string{
		"name": want.Name, "given_name": want.GivenName, "family_name": want.FamilyName, "middle_name": want.MiddleName,
		"nickname": want.Nickname, "preferred_username": want.PreferredUsername, "profile": want.ProfileURL, "picture": want.Picture,
		"website": want.Website, "gender": want.Gender, "birthdate": want.Birthdate, "zoneinfo": want.Zoneinfo, "locale": want.Locale,
		"phone_number": "+44 20 7123 4567", "address.formatted": "Ada Lovelace\r\n12 St James's Square\r\nLondon",
		"address.street_address": want.Address.StreetAddress, "address.locality": want.Address.Locality,
		"address.region": want.Address.Region, "address.postal_code": want.Address.PostalCode, "address.country": want.Address.Country,
	}
	p := b.press(b.get("/account/profile").want(http.StatusOK, "profile-form"), "profile-submit", fields)
	p.at("/account/profile?done=saved").want(http.StatusOK, "done").says("Your profile is saved.")
	got := w.user(t, u.ID).Profile
	got.UpdatedAt = time.Time{}
	if got != want {
		t.Errorf("profile\n%+v\nwant\n%+v", got, want)
	}
	for name, value := range fields {
		field := p.id(name)
		if field == nil {
			t.Fatalf("no field %s", name)
		}
		shown := attr(field, "value")
		switch field.Data {
		case "textarea":
			shown = textOf(field)
			value = strings.Join(strings.Fields(value), " ")
		case "select":
			for o := range field.Descendants() {
				if hasAttr(o, "selected") {
					shown = textOf(o)
				}
			}
		}
		if name == "phone_number" {
			value = want.PhoneNumber
		}
		if shown != value {
			t.Errorf("field %s shows %q, want %q", name, shown, value)
		}
	}
}

func TestProfileSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	fields := map[string]string{"name": "Ada", "website": "no address", "birthdate": "tomorrow", "locale": "?", "zoneinfo": "Mars/Base", "phone_number": "12", "preferred_username": "ada@example.com"}
	p := b.press(b.get("/account/profile"), "profile-submit", fields)
	p.want(http.StatusUnprocessableEntity, "summary", "website-problem", "birthdate-problem", "locale-problem", "zoneinfo-problem", "phone_number-problem", "preferred_username-problem")
	if got := attr(p.id("website"), "aria-describedby"); !strings.Contains(got, "website-problem") {
		t.Errorf("website is described by %q", got)
	}
	if attr(p.id("name"), "value") != "Ada" {
		t.Error("what was typed is gone")
	}
	if got := w.user(t, u.ID).Profile.Name; got != "" {
		t.Errorf("name %q was saved although a field is wrong", got)
	}
}

// A person cannot declare an address or a number confirmed by posting the flag.
func TestAttackPostedVerifiedFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.RequireVerifiedEmail = false })
	u, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	b.signIn(alice)
	b.post("/account/profile", url.Values{
		"phone_number": {"+442071234567"}, "phone_number_verified": {"true"}, "email_verified": {"true"}, "email": {"eve@evil.example"},
		"role": {"admin"}, "status": {"active"}, "id": {"x"}, "user_id": {"x"},
	}).at("/account/profile?done=saved")
	got := w.user(t, u.ID)
	if got.EmailVerified || got.Profile.PhoneNumberVerified || got.Email != alice || got.Role != identity.RoleUser {
		t.Errorf("after the post: %+v", got)
	}
	if got.Profile.PhoneNumber == "" {
		t.Error("the number itself was not saved")
	}
}

func TestAttackScriptInProfileAndUserAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	b := w.browser(t)
	b.agent = evil + " Firefox/1 Linux"
	b.signIn(alice).want(http.StatusOK, "sign-out")
	b.press(b.get("/account/profile"), "profile-submit", map[string]string{"name": evil, "nickname": evil, "address.formatted": evil})
	if got := w.user(t, u.ID).Profile.Nickname; got != evil {
		t.Fatalf("nickname is %q", got)
	}
	for _, path := range []string{"/account", "/account/profile", "/account/sessions", "/account/email", "/confirm"} {
		p := b.get(path).want(http.StatusOK)
		for n := range p.doc.Descendants() {
			if n.Data == "script" || n.Data == "img" && attr(n, "onerror") != "" {
				t.Errorf("%s runs what was typed", path)
			}
		}
	}
	b.get("/account/sessions").says("Firefox on Linux")
}

// A word in ?done= that we did not choose shows nothing.
func TestAttackWordsInNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	for _, word := range []string{"<b>x</b>", "Call+0900", "saved.x", "account.title", ""} {
		if p := b.get("/account?done=" + url.QueryEscape(word)); p.id("done") != nil {
			t.Errorf("done=%q shows %q", word, textOf(p.id("done")))
		}
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	other := w.browser(t)
	other.signIn(alice).want(http.StatusOK, "sign-out")
	before := b.cookie("gatehouse-session")
	const next = "seven purple elephants dance"
	for _, tt := range []struct{ name, current, next, problem string }{
		{"wrong password", "wrong", next, "current-problem"},
		{"no password", "", next, "current-problem"},
		{"short", password, "short", "password-problem"},
		{"the own address", password, alice + alice, "password-problem"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := b.press(b.get("/account/password"), "password-submit", map[string]string{"current": tt.current, "password": tt.next})
			p.want(http.StatusUnprocessableEntity, "summary", tt.problem)
			forbidden(t, p.body, password, next)
		})
	}
	p := b.press(b.get("/account/password"), "password-submit", map[string]string{"current": password, "password": next})
	p.at("/account?done=password").says("all other devices are signed out")
	if b.cookie("gatehouse-session") == before {
		t.Error("the session token did not change")
	}
	other.get("/account").at("/login")
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "password") || !strings.Contains(m.Text, "Firefox on Linux") || !strings.Contains(m.Text, "192.0.2.7") {
		t.Errorf("notice: %s\n%s", m.Subject, m.Text)
	}
	if err := w.people.CheckUserPassword(t.Context(), u.ID, next, deviceOf(&http.Request{}).Address); err != nil {
		t.Errorf("the new password does not work: %v", err)
	}
}

// An open browser of somebody with two-step sign-in is not enough, and neither is the password.
func TestAttackPasswordChangeWithoutCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	code, recovery := w.enrol(t, u)
	b := w.browser(t)
	b.signInTwoStep(alice, code()).want(http.StatusOK, "sign-out")
	const next = "seven purple elephants dance"
	form := url.Values{"current": {password}, "password": {next}}
	for _, c := range []string{"", "000000", "aaaaaa-aaaaaa"} {
		form.Set("code", c)
		b.post("/account/password", form).want(http.StatusUnprocessableEntity, "code-problem")
	}
	form.Del("code")
	b.post("/account/password", form).want(http.StatusUnprocessableEntity, "code-problem")
	form.Set("code", recovery[0])
	b.post("/account/password", form).at("/account?done=password")
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	w.stale()
	before := b.cookie("gatehouse-session")
	p := b.get("/account/email").at("/confirm?to=email")
	p = b.press(p, "confirm-submit", map[string]string{"password": "wrong"}).want(http.StatusUnprocessableEntity, "password-problem")
	b.press(p, "confirm-submit", map[string]string{"password": password}).at("/account/email")
	if b.cookie("gatehouse-session") == before {
		t.Error("the session token did not change (session fixation)")
	}
	w.stale()
	b.get("/account/email").at("/confirm?to=email")
}

func TestAttackOpenRedirectAfterConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	for _, to := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/account/../evil", "javascript:alert(1)", "/account/email", "email\r\nX: y", ""} {
		p := b.roundTrip(http.MethodPost, "/confirm", url.Values{"to": {to}, "password": {password}}, http.Header{"Sec-Fetch-Site": {"same-origin"}})
		if got := p.header.Get("Location"); p.status != http.StatusSeeOther || got != "/account" {
			t.Errorf("to=%q: %d to %q, want 303 to /account", to, p.status, got)
		}
		b.get("/confirm?to="+url.QueryEscape(to)).want(http.StatusOK, "confirm-submit")
	}
	for to, want := range map[string]string{"email": "/account/email", "setup": "/account/two-step/setup", "two-step": "/account/two-step?done=confirmed"} {
		b.post("/confirm", url.Values{"to": {to}, "password": {password}}).at(want)
	}
}

// Posting straight to what needs a fresh proof changes nothing.
func TestAttackSkipConfirmByDirectPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice).want(http.StatusOK, "sign-out")
	w.stale()
	b.post("/account/email", url.Values{"email": {"eve@evil.example"}}).at("/confirm?to=email")
	e, err := w.people.BeginTOTP(t.Context(), u.ID, "Gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(e.Secret, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	b.post("/account/two-step/setup", url.Values{"code": {code}}).at("/confirm?to=setup")
	if w.user(t, u.ID).HasTOTP {
		t.Error("two-step sign-in was turned on")
	}
	next, recovery := w.enrol(t, u)
	b.post("/account/two-step/off", nil).at("/confirm?to=two-step")
	b.post("/account/two-step/codes", nil).at("/confirm?to=two-step")
	// The password alone is no proof for somebody with two steps.
	for _, c := range []string{"", "000000"} {
		b.post("/confirm", url.Values{"to": {"two-step"}, "password": {password}, "code": {c}}).want(http.StatusUnprocessableEntity, "code-problem")
	}
	b.post("/confirm", url.Values{"to": {"two-step"}, "password": {password}}).want(http.StatusUnprocessableEntity, "code-problem")
	b.post("/account/two-step/off", nil).at("/confirm?to=two-step")
	if !w.user(t, u.ID).HasTOTP {
		t.Fatal("two-step sign-in was turned off")
	}
	if err := w.people.CheckRecoveryCode(t.Context(), u.ID, recovery[0]); err != nil {
		t.Errorf("the recovery codes were replaced: %v", err)
	}
	w.pages.Wait()
	if n := len(w.inbox.Messages()); n != 0 {
		t.Errorf("%d mails went out, want none", n)
	}
	b.post("/confirm", url.Values{"to": {"two-step"}, "password": {password}, "code": {next()}}).at("/account/two-step?done=confirmed")
	b.post("/account/two-step/off", nil).at("/account/two-step?done=two_step_off")
}

// A session from before two-step sign-in, fresh as it may be, proves only the password.
func TestAttackRemoveSecondStepWithPasswordSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	w.enrol(t, u) // in another browser, a moment later
	b.post("/account/two-step/off", nil).at("/confirm?to=two-step")
	b.post("/account/two-step/codes", nil).at("/confirm?to=two-step")
	if !w.user(t, u.ID).HasTOTP {
		t.Error("two-step sign-in was turned off")
	}
}

func TestTwoStepSetup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	p := b.get("/account/two-step").want(http.StatusOK, "setup-link")
	p = b.get(attr(p.id("setup-link"), "href")).want(http.StatusOK, "totp-secret", "code")
	secret := strings.ReplaceAll(textOf(p.id("totp-secret")), " ", "")
	if !strings.Contains(p.body, `src="data:image/png;base64,`) || !strings.Contains(p.body, "otpauth://totp/") {
		t.Error("no QR code or no link for an app on this device")
	}
	p = b.press(p, "setup-submit", map[string]string{"code": "000000"}).want(http.StatusUnprocessableEntity, "code-problem")
	if again := strings.ReplaceAll(textOf(p.id("totp-secret")), " ", ""); again != secret {
		t.Errorf("after a wrong code the secret is %q, want the same", again)
	}
	thief := w.browser(t) // knows the password
	thief.signIn(alice).want(http.StatusOK, "sign-out")
	before := b.cookie("gatehouse-session")
	code, err := totp.GenerateCode(secret, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	p = b.press(p, "setup-submit", map[string]string{"code": code}).want(http.StatusOK, "recovery-codes", "codes-saved").says("Your other devices were signed out")
	thief.get("/account").at("/login")
	codes := strings.Fields(textOf(p.id("recovery-codes")))
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes, want 10: %q", len(codes), codes)
	}
	if b.cookie("gatehouse-session") == before {
		t.Error("the session token did not change")
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "Two-step sign-in is on") {
		t.Errorf("notice: %s", m.Subject)
	}
	sessions, err := w.people.Sessions(t.Context(), u.ID)
	if err != nil || len(sessions) != 1 || sessions[0].ACR() != identity.ACRMFA {
		t.Errorf("sessions %+v (%v), want one with two steps", sessions, err)
	}

	t.Run("attack: secret and codes shown again", func(t *testing.T) {
		b.get("/account/two-step/setup").at("/account/two-step")
		b.post("/account/two-step/setup", url.Values{"code": {code}}).at("/account/two-step")
		for _, path := range []string{"/account", "/account/two-step", "/account/profile", "/inbox"} {
			body := b.get(path).body
			forbidden(t, body, append(codes, secret, "otpauth:")...)
		}
		for _, m := range w.inbox.Messages() {
			forbidden(t, m.Text, append(codes, secret)...)
		}
	})

	b.get("/account/two-step").says("10 recovery codes left.")
	p = b.press(b.get("/account/two-step"), "codes-submit", nil).want(http.StatusOK, "recovery-codes")
	fresh := strings.Fields(textOf(p.id("recovery-codes")))
	if len(fresh) != 10 || fresh[0] == codes[0] {
		t.Errorf("new codes %q", fresh)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "recovery codes") {
		t.Errorf("notice: %s", m.Subject)
	}
	if err := w.people.CheckRecoveryCode(t.Context(), u.ID, codes[0]); err == nil {
		t.Error("an old recovery code still works")
	}
	if err := w.people.CheckRecoveryCode(t.Context(), u.ID, fresh[0]); err != nil {
		t.Errorf("a new recovery code: %v", err)
	}

	b.press(b.get("/account/two-step"), "off-submit", nil).at("/account/two-step?done=two_step_off").want(http.StatusOK, "setup-link")
	if w.user(t, u.ID).HasTOTP {
		t.Error("two-step sign-in is still on")
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "Two-step sign-in is off") {
		t.Errorf("notice: %s", m.Subject)
	}
}

func TestEmailChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	const next = "ada@new.example"
	for _, tt := range []struct{ name, email string }{{"same", "Alice@example.com"}, {"none", ""}, {"malformed", "ada@"}, {"two", "a@b.example, c@d.example"}, {"header", "a@b.example\r\nBcc: c@d.example"}} {
		t.Run(tt.name, func(t *testing.T) {
			b.post("/account/email", url.Values{"email": {tt.email}}).want(http.StatusUnprocessableEntity, "email-problem")
		})
	}
	b.press(b.get("/account/email"), "email-submit", map[string]string{"email": " ada@NEW.example "}).at("/account/email?done=email_sent")
	link := w.mailLink(t, next)
	if got := w.user(t, u.ID).Email; got != alice {
		t.Fatalf("the address is %q before the link was followed", got)
	}
	// Mail scanners open links.
	for range 3 {
		b.get(link).want(http.StatusOK, "email-confirm").says(alice)
	}
	b.press(b.get(link), "email-confirm", nil).at("/account?done=email")
	if got := w.user(t, u.ID); got.Email != next || !got.EmailVerified {
		t.Errorf("address %q, proven %v", got.Email, got.EmailVerified)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "was changed") || strings.Contains(m.Text, next) {
		t.Errorf("notice to the old address: %s\n%s", m.Subject, m.Text)
	}
	b.get(link).want(http.StatusUnprocessableEntity).says("no longer works")
	b.post("/account/email/link", url.Values{"t": {mustToken(t, link)}}).want(http.StatusUnprocessableEntity)
}

func mustToken(t testing.TB, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Query().Get("t") == "" {
		t.Fatalf("no token in %q", link)
	}
	return u.Query().Get("t")
}

// A thief asks for a stranger's address; the stranger, who knows the service, presses the button: the thief's account
// must not get the address.
func TestAttackAddressConfirmedInAnotherSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thief, u := w.member(t, alice)
	const victimMail = "carol@example.com"
	thief.press(thief.get("/account/email"), "email-submit", map[string]string{"email": victimMail}).at("/account/email?done=email_sent")
	link := w.mailLink(t, victimMail)

	signedOut := w.browser(t)
	p := signedOut.get(link).want(http.StatusUnprocessableEntity)
	forbidden(t, p.text(), alice)
	if p.id("email-confirm") != nil {
		t.Error("somebody who is not signed in gets the button")
	}
	signedOut.post("/account/email/link", url.Values{"t": {mustToken(t, link)}}).at("/login")

	victim, _ := w.member(t, bob)
	p = victim.get(link).want(http.StatusUnprocessableEntity).says("another account")
	forbidden(t, p.text(), alice)
	victim.post("/account/email/link", url.Values{"t": {mustToken(t, link)}}).want(http.StatusUnprocessableEntity).says("another account")
	if got := w.user(t, u.ID).Email; got != alice {
		t.Errorf("the thief's address is %q", got)
	}
}

// The page says the same whether the new address has an account or not; only its holder learns it.
func TestAttackAccountFoundByEmailChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, bob)
	b, u := w.member(t, alice)
	known := b.post("/account/email", url.Values{"email": {bob}})
	unknown := b.post("/account/email", url.Values{"email": {"nobody@example.com"}})
	if known.text() != unknown.text() || known.url.String() != unknown.url.String() {
		t.Errorf("for an address with an account:\n%s\nwithout:\n%s", known.text(), unknown.text())
	}
	if m := w.mailTo(t, bob); !strings.Contains(m.Subject, "already have an account") || strings.Contains(m.Text, "t=") {
		t.Errorf("mail to the known address: %s\n%s", m.Subject, m.Text)
	}
	if got := w.user(t, u.ID).Email; got != alice {
		t.Errorf("address is %q", got)
	}
}

func TestAttackMailboxFilledByEmailChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	limited := 0
	for range 12 {
		if b.post("/account/email", url.Values{"email": {"victim@example.com"}}).status == http.StatusTooManyRequests {
			limited++
		}
	}
	w.pages.Wait()
	sent := map[string]int{}
	for _, m := range w.inbox.Messages() {
		sent[m.To]++
	}
	if n := sent["victim@example.com"]; n > changeMails || sent[alice] > changeMails || limited == 0 {
		t.Errorf("%d mails, %d notices, %d refusals; want at most %d mails and some refusals", n, sent[alice], limited, changeMails)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, u := w.member(t, alice)
	phone := w.browser(t)
	phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1"
	phone.signIn(alice).want(http.StatusOK, "sign-out")
	third := w.browser(t)
	third.signIn(alice).want(http.StatusOK, "sign-out")
	p := here.get("/account/sessions").want(http.StatusOK, "end-others").says("Safari on iPhone", "Firefox on Linux", "This device", "just now", "192.0.2.7")

	var phoneID string
	sessions, err := w.people.Sessions(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		if strings.Contains(s.Device.UserAgent, "iPhone") {
			phoneID = s.ID
		}
	}
	if !strings.Contains(p.body, phoneID) {
		t.Fatal("the phone cannot be ended")
	}
	here.post("/account/sessions/end", url.Values{"session": {phoneID}}).at("/account/sessions?done=session_ended")
	phone.get("/account").at("/login")
	third.get("/account").at("/account")
	here.press(here.get("/account/sessions"), "end-others", nil).at("/account/sessions?done=sessions_ended").says("signed in nowhere else")
	third.get("/account").at("/login")
	here.get("/account").at("/account")

	sessions, err = w.people.Sessions(t.Context(), u.ID)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%d sessions (%v), want one", len(sessions), err)
	}
	here.post("/account/sessions/end", url.Values{"session": {sessions[0].ID}}).at("/signed-out")
	if here.cookie("gatehouse-session") != "" {
		t.Error("the cookie is still there")
	}
}

// The id of somebody else's session ends nothing (insecure direct object reference).
func TestAttackEndAnotherPersonsSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	victim, u := w.member(t, alice)
	thief, _ := w.member(t, bob)
	sessions, err := w.people.Sessions(t.Context(), u.ID)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%d sessions (%v), want one", len(sessions), err)
	}
	for _, id := range []string{sessions[0].ID, "", "x", "' OR 1=1 --"} {
		thief.post("/account/sessions/end", url.Values{"session": {id}}).want(http.StatusNotFound, "error-page")
	}
	thief.post("/account/sessions/end-others", url.Values{"user": {u.ID}, "user_id": {u.ID}}).want(http.StatusOK)
	victim.get("/account").at("/account")
	if p := thief.get("/account/sessions"); strings.Contains(p.body, sessions[0].ID) {
		t.Error("somebody else's session is listed")
	}
}

// Ids of apps reach one's own access only.
func TestAttackWithdrawAnotherPersonsApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.app(t, func(c *oauth.Client) { c.Name = "Demo <b>app</b>" })
	victim, u := w.member(t, alice)
	thief, _ := w.member(t, bob)
	if p := victim.press(victim.get(authorize(app, nil)).want(http.StatusOK, "consent-allow"), "consent-allow", nil); !strings.HasPrefix(p.away, callback) {
		t.Fatalf("the app was not let in: %q", p.away)
	}
	p := victim.get("/account/apps").want(http.StatusOK, "apps").says("Demo <b>app</b>", "see your email address", "https://app.example.org")
	forbidden(t, p.body, "<b>app")
	thief.get("/account/apps").says("No app has access")
	thief.post("/account/apps/withdraw", url.Values{"client": {app.ID}, "user": {u.ID}, "user_id": {u.ID}})
	victim.get("/account/apps").want(http.StatusOK, "apps")

	victim.post("/account/apps/withdraw", url.Values{"client": {app.ID}}).at("/account/apps?done=withdrawn").says("No app has access")
	victim.get(authorize(app, nil)).want(http.StatusOK, "consent-allow")
	victim.post("/account/apps/withdraw", nil).want(http.StatusBadRequest, "error-page")
}
