package ui

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
	"golang.org/x/net/html"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// sight is one page in one state. WHOEVER ADDS A PAGE ADDS A LINE: TestAccessible fails on a template or a GET route that no
// sight shows. show leads a browser there in a world of its own, in which alice has an account.
type sight struct {
	page  string // the template it must be
	state string // what is special about it; empty for the page as it usually is
	show  func(s *scene) page
}

// scene is what a sight can use.
type scene struct {
	*world
	t     *testing.T
	alice identity.User
}

// stranger is a browser in which nobody has signed in.
func (s *scene) stranger() *browser { return s.browser(s.t) }

// member is a browser in which alice has signed in.
func (s *scene) member() *browser {
	b := s.stranger()
	b.signIn(alice)
	return b
}

// open is the page at a path for alice, signed in.
func (s *scene) open(path string) page { return s.member().get(path) }

// groupAdmin is a browser in which alice, the admin of a group, has signed in.
func (s *scene) groupAdmin() (*browser, identity.Group) {
	s.t.Helper()
	g, err := s.people.CreateGroup(s.t.Context(), "", "Team Berlin", "Everybody in Berlin")
	if err == nil {
		err = s.people.AddMember(s.t.Context(), "", g.ID, s.alice.ID, true)
	}
	if err == nil {
		err = s.people.AddMember(s.t.Context(), "", g.ID, s.person(s.t, bob).ID, false)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s.member(), g
}

// visiting is the page at a path for a stranger.
func (s *scene) visiting(path string) page { return s.stranger().get(path) }

var sights = []sight{
	{"login", "", func(s *scene) page { return s.visiting("/login") }},
	{"login", "for an app", func(s *scene) page { return s.visiting(authorize(s.app(s.t), nil)) }},
	{"login", "wrong password", func(s *scene) page {
		b := s.stranger()
		return b.press(b.get("/login"), "login-submit", map[string]string{"email": alice, "password": "wrong wrong wrong"})
	}},
	{"code", "", func(s *scene) page { s.enrol(s.t, s.alice); return s.stranger().signIn(alice) }},
	{"code", "wrong code", func(s *scene) page {
		s.enrol(s.t, s.alice)
		return s.stranger().signInTwoStep(alice, "000000")
	}},
	{"recovery", "", func(s *scene) page {
		s.enrol(s.t, s.alice)
		b := s.stranger()
		b.signIn(alice)
		return b.get("/login/recovery")
	}},
	{"passkey", "", func(s *scene) page { s.keyed(); return s.stranger().signIn(alice) }},
	{"step_up", "", func(s *scene) page {
		return s.member().get(authorize(s.app(s.t), url.Values{"acr_values": {identity.ACRMFA}}))
	}},
	{"passkey", "or a code, refused", func(s *scene) page {
		s.keyed()
		s.enrol(s.t, s.alice)
		b := s.stranger()
		return b.fumble(b.signIn(alice))
	}},
	{"passkey", "nothing else is enough", func(s *scene) page {
		s.keyed()
		next, _ := s.enrol(s.t, s.alice)
		b := s.stranger()
		b.signIn(alice)
		b.press(b.get("/login/code"), "code-submit", map[string]string{"code": next()})
		return b.get(authorize(s.app(s.t), url.Values{"acr_values": {identity.ACRPhishingResistant}}))
	}},
	{"login", "passkey refused", func(s *scene) page {
		s.keyed()
		b := s.stranger()
		return b.fumble(b.get("/login"))
	}},
	{"step_up", "a passkey", func(s *scene) page {
		return s.member().get(authorize(s.app(s.t), url.Values{"acr_values": {identity.ACRPhishingResistant}}))
	}},
	{"step_up", "by the server's policy", func(s *scene) page {
		s.anew(func(c *Config) { c.SignInPolicy = identity.ACRMFA })
		return s.open("/account")
	}},
	{"account_passkeys", "", func(s *scene) page { return s.keyed().get("/account/passkeys") }},
	{"account_passkeys", "none, one removed", func(s *scene) page { return s.open("/account/passkeys?done=passkey_removed") }},
	{"account_passkeys", "a name too long", func(s *scene) page {
		b := s.keyed()
		return b.post("/account/passkeys/rename", url.Values{"passkey": {s.passkeyID()}, "name": {strings.Repeat("x", 100)}})
	}},
	{"account_passkeys", "copied, the last way in", func(s *scene) page {
		b := s.keyed()
		for _, query := range []string{`UPDATE passkeys SET copied_at = created_at WHERE user_id = $1`, `UPDATE users SET password_hash = '' WHERE id = $1`} {
			if _, err := s.db.Exec(s.t.Context(), query, s.alice.ID); err != nil {
				s.t.Fatal(err)
			}
		}
		return b.post("/account/passkeys/remove", url.Values{"passkey": {s.passkeyID()}})
	}},
	{"account_passkeys", "not at this address", func(s *scene) page {
		s.world = newWorldAt(s.t, "https://192.0.2.1")
		s.alice = s.person(s.t, alice)
		return s.open("/account/passkeys")
	}},
	{"account_passkey_new", "", func(s *scene) page { return s.open("/account/passkeys/new") }},
	{"account_passkey_new", "no name", func(s *scene) page {
		b := s.member()
		values := b.answer(b.get("/account/passkeys/new"), s.key())
		values.Set("name", "")
		return b.post("/account/passkeys/new", values)
	}},
	{"account_passkey_new", "refused", func(s *scene) page {
		return s.member().post("/account/passkeys/new", url.Values{"name": {"Phone"}, "credential": {"{}"}})
	}},
	{"account_two_step_codes", "after the first passkey", func(s *scene) page {
		b := s.member()
		return b.touch(b.get("/account/passkeys/new"), s.key())
	}},
	{"account_two_step", "with a passkey", func(s *scene) page { return s.keyed().get("/account/two-step") }},
	{"account_password", "a passkey instead", func(s *scene) page {
		b := s.keyed()
		s.stale()
		return b.get("/account/password")
	}},
	{"account_password", "the first one, by passkey", func(s *scene) page { return s.onlyPasskey().get("/account/password") }},
	{"account_password", "none, nothing proven", func(s *scene) page {
		b := s.onlyPasskey()
		s.stale()
		return b.get("/account/password")
	}},
	{"confirm", "with a passkey", func(s *scene) page {
		b := s.keyed()
		s.clock.forward(time.Hour)
		return b.get("/confirm?to=password")
	}},
	{"confirm", "passkey refused", func(s *scene) page {
		b := s.keyed()
		s.clock.forward(time.Hour)
		return b.fumble(b.get("/confirm?to=password"))
	}},
	{"register", "with work to do", func(s *scene) page {
		s.anew(withChallenge)
		return s.visiting("/register")
	}},
	{"register", "work not done", func(s *scene) page {
		s.anew(withChallenge)
		b := s.stranger()
		return b.press(b.get("/register"), "register-submit", map[string]string{"email": bob, "password": password, "challenge": ""})
	}},
	{"login", "with work to do", func(s *scene) page {
		s.anew(withChallenge, func(c *Config) { c.ChallengeAlways = true })
		return s.visiting("/login")
	}},
	{"login", "work not done", func(s *scene) page {
		s.anew(withChallenge, func(c *Config) { c.ChallengeAlways = true })
		b := s.stranger()
		return b.press(b.get("/login"), "login-submit", map[string]string{"email": alice, "password": password, "challenge": ""})
	}},
	{"register", "", func(s *scene) page { return s.visiting("/register") }},
	{"register", "problems", func(s *scene) page {
		b := s.stranger()
		return b.press(b.get("/register"), "register-submit", map[string]string{"email": "nobody", "password": "short"})
	}},
	{"mail_code", "", func(s *scene) page { return s.visiting("/login/mail") }},
	{"mail_code_check", "", func(s *scene) page {
		b := s.stranger()
		b.askCode("/login", alice)
		return b.get("/login/mail/code")
	}},
	{"mail_code_check", "wrong code", func(s *scene) page {
		b := s.stranger()
		return b.press(b.askCode("/login", alice), "mail-code-check", map[string]string{"code": "0000-0000"})
	}},
	{"invitation", "", func(s *scene) page { return s.visiting(s.invite(s.t, identity.SignUpInvitation{Email: bob})) }},
	{"error", "an invitation over", func(s *scene) page {
		link := s.invite(s.t, identity.SignUpInvitation{Email: bob})
		s.clock.forward(49 * time.Hour)
		return s.visiting(link)
	}},
	{"consent", "attributes", func(s *scene) page {
		b := s.member()
		s.attributes(s.t, s.alice)
		a, err := s.people.Attribute(s.t.Context(), "badge")
		if err == nil {
			err = s.people.MapAttribute(s.t.Context(), "", a.ID, identity.AttributeClaim{Claim: "badge_no", Scope: "email"})
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return b.get(authorize(s.app(s.t), nil))
	}},
	{"attributes_missing", "", func(s *scene) page {
		b := s.member()
		s.required(s.t)
		return b.get(authorize(s.app(s.t), nil))
	}},
	{"attributes_missing", "with problems", func(s *scene) page {
		s.required(s.t)
		b := s.stranger()
		return b.press(b.signIn(alice), "missing-submit", map[string]string{"attribute.staff_no": "12"})
	}},
	{"verify", "", func(s *scene) page { return s.unproven().get("/verify") }},
	{"verify_link", "", func(s *scene) page {
		s.unproven()
		return s.visiting("/verify/link?t=" + s.link(bob, identity.Verify))
	}},
	{"verify_link", "wrong password", func(s *scene) page {
		s.unproven()
		b := s.stranger()
		return b.press(b.get("/verify/link?t="+s.link(bob, identity.Verify)), "verify-submit", map[string]string{"password": "wrong wrong wrong"})
	}},
	{"verify_link", "signed in", func(s *scene) page { return s.unproven().get("/verify/link?t=" + s.link(bob, identity.Verify)) }},
	{"verify_done", "", func(s *scene) page {
		s.unproven()
		b := s.member() // somebody else's browser
		return b.press(b.get("/verify/link?t="+s.link(bob, identity.Verify)), "verify-submit", map[string]string{"password": password})
	}},
	{"verify_refused", "", func(s *scene) page {
		s.unproven()
		b := s.stranger()
		return b.press(b.get("/verify/link?t="+s.link(bob, identity.Verify)), "verify-refuse", nil)
	}},
	{"not_me", "", func(s *scene) page { return s.visiting("/not-me?t=" + s.notMe(s.t, s.alice.ID, identity.ActAddress)) }},
	{"forgot", "", func(s *scene) page { return s.visiting("/forgot") }},
	{"forgot", "sent", func(s *scene) page {
		b := s.stranger()
		return b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": alice})
	}},
	{"reset", "", func(s *scene) page { return s.visiting("/reset?t=" + s.link(alice, identity.Reset)) }},
	{"password_new", "", func(s *scene) page {
		if err := s.people.SetOneTimePassword(s.t.Context(), s.alice.ID, password); err != nil {
			s.t.Fatal(err)
		}
		return s.stranger().signIn(alice)
	}},
	{"select", "", func(s *scene) page {
		b := s.member()
		s.clock.forward(time.Minute)
		return b.get(authorize(s.app(s.t), url.Values{"prompt": {"select_account"}}))
	}},
	{"consent", "", func(s *scene) page {
		return s.open(authorize(s.app(s.t), url.Values{"scope": {"openid profile email phone address offline_access"}}))
	}},
	{"consent", "asks for more", func(s *scene) page {
		b, c := s.member(), s.app(s.t)
		b.press(b.get(authorize(c, nil)), "consent-allow", nil)
		return b.get(authorize(c, url.Values{"scope": {"openid email phone offline_access"}}))
	}},
	{"consent", "for a stranger", func(s *scene) page {
		return s.open(authorize(s.app(s.t, func(c *oauth.Client) { c.Origin = oauth.OriginRegistration }), url.Values{"scope": {"openid email"}}))
	}},
	{"consent", "for a device", func(s *scene) page {
		_, code, _ := s.waiting(s.t)
		b := s.member()
		return b.press(b.get("/device"), "device-submit", map[string]string{"user_code": code})
	}},
	{"device", "", func(s *scene) page { return s.visiting("/device") }},
	{"device", "wrong code", func(s *scene) page {
		b := s.stranger()
		return b.press(b.get("/device?user_code=BBBB-CCCC"), "device-submit", nil)
	}},
	{"device_done", "", func(s *scene) page { return s.visiting("/device/done") }},
	{"device_done", "refused", func(s *scene) page { return s.visiting("/device/done?n=denied") }},
	{"no_access", "", func(s *scene) page {
		g, err := s.people.CreateGroup(s.t.Context(), "", "Staff", "")
		if err != nil {
			s.t.Fatal(err)
		}
		return s.open(authorize(s.app(s.t, func(c *oauth.Client) { c.AllowGroups = []string{g.ID} }), nil))
	}},
	{"account_groups", "", func(s *scene) page { return s.open("/account/groups") }},
	{"account_groups", "invited, admin", func(s *scene) page {
		b, g := s.groupAdmin()
		other, err := s.people.CreateGroup(s.t.Context(), "", "Reading circle", "Books, once a month")
		if err == nil {
			err = s.people.AddMember(s.t.Context(), "", other.ID, s.person(s.t, carol).ID, true)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		u, _ := s.people.UserByEmail(s.t.Context(), carol)
		if _, err := s.people.Invite(s.t.Context(), u.ID, other.ID, alice); err != nil {
			s.t.Fatal(err)
		}
		s.guarded(s.t, g)
		return b.get("/account/groups")
	}},
	{"account_attributes", "nothing", func(s *scene) page { return s.open("/account/attributes") }},
	{"account_attributes", "", func(s *scene) page {
		s.attributes(s.t, s.alice)
		return s.open("/account/attributes")
	}},
	{"account_attributes", "problems", func(s *scene) page {
		s.attributes(s.t, s.alice)
		b := s.member()
		return b.press(b.get("/account/attributes"), "attributes-submit", map[string]string{"attribute.shoe": "big", "attribute.diet": "x"})
	}},
	{"account_group", "", func(s *scene) page {
		b, g := s.groupAdmin()
		return b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": "dora@example.com"})
	}},
	{"account_group", "problem", func(s *scene) page {
		b, g := s.groupAdmin()
		return b.press(b.get("/account/groups/"+g.ID), "invite-submit", map[string]string{"email": "nobody"})
	}},
	{"account_group", "guarded", func(s *scene) page {
		b, g := s.groupAdmin()
		s.guarded(s.t, g)
		return b.get("/account/groups/" + g.ID)
	}},
	{"onward", "", func(s *scene) page {
		b := s.stranger()
		path, form := b.get(authorize(s.app(s.t), nil)).form("login-submit")
		form.Set("email", alice)
		form.Set("password", password)
		return b.roundTrip(http.MethodPost, path, form, http.Header{"Sec-Fetch-Site": {"same-origin"}})
	}},
	{"logout", "", func(s *scene) page { return s.open("/logout") }},
	{"logout", "an app's request, refused", func(s *scene) page {
		c := s.app(s.t)
		return s.open(logoutURL("client_id", c.ID, "post_logout_redirect_uri", "https://elsewhere.example/"))
	}},
	{"logout_frames", "", func(s *scene) page {
		c := s.app(s.t, func(c *oauth.Client) { c.FirstParty, c.FrontchannelLogoutURI = true, "https://app.example.org/out" })
		b := s.member()
		b.get(authorize(c, nil))
		return b.press(b.get("/logout"), "logout-confirm", nil)
	}},
	{"signed_out", "", func(s *scene) page { return s.visiting("/signed-out") }},
	{"logout_frames", "", func(s *scene) page {
		c := s.app(s.t, func(c *oauth.Client) {
			c.FirstParty, c.PostLogoutRedirectURIs, c.FrontchannelLogoutURI = true, []string{"https://app.example.org/bye"}, "https://app.example.org/out"
		})
		b := s.member()
		p := b.get(logoutURL("id_token_hint", s.idToken(s.t, b, c), "post_logout_redirect_uri", "https://app.example.org/bye"))
		p.body = strings.NewReplacer(` src="https://app`, ` data-src="https://app`, `http-equiv="refresh"`, "").Replace(p.body) // there is no app
		return p
	}},
	{"error", "", func(s *scene) page { return s.visiting("/nowhere") }},
	{"error", "an app over", func(s *scene) page {
		p := s.visiting(authorize(s.app(s.t), nil))
		s.clock.forward(2 * time.Hour)
		return s.stranger().get(p.url.RequestURI())
	}},
	{"account", "", func(s *scene) page { return s.open("/account") }},
	{"account", "in order", func(s *scene) page {
		b := s.member()
		s.enrol(s.t, s.alice)
		return b.get("/account?done=confirmed")
	}},
	{"account_profile", "", func(s *scene) page { return s.open("/account/profile?done=saved") }},
	{"account_profile", "problems", func(s *scene) page {
		b := s.member()
		return b.press(b.get("/account/profile"), "profile-submit", map[string]string{"website": "javascript:1", "phone_number": "x"})
	}},
	{"account_preferences", "", func(s *scene) page { return s.open("/account/preferences?done=saved") }},
	{"account_preferences", "problems", func(s *scene) page {
		b := s.member()
		return b.press(b.get("/account/preferences"), "preferences-submit", map[string]string{"zone": "Moon/Sea", "language": "x"})
	}},
	{"account_email", "", func(s *scene) page { return s.open("/account/email") }},
	{"account_email_link", "", func(s *scene) page {
		token, err := s.people.NewLink(s.t.Context(), s.alice.ID, identity.ChangeEmail, "new@example.com")
		if err != nil {
			s.t.Fatal(err)
		}
		return s.open("/account/email/link?t=" + token)
	}},
	{"account_password", "", func(s *scene) page { return s.open("/account/password") }},
	{"account_password", "problems", func(s *scene) page {
		b := s.member()
		return b.press(b.get("/account/password"), "password-submit", map[string]string{"current": "wrong", "password": "short"})
	}},
	{"account_two_step", "off", func(s *scene) page { return s.open("/account/two-step") }},
	{"account_two_step", "on", func(s *scene) page {
		b := s.member()
		s.enrol(s.t, s.alice)
		return b.get("/account/two-step")
	}},
	{"account_two_step_setup", "", func(s *scene) page { return s.open("/account/two-step/setup") }},
	{"account_two_step_codes", "", func(s *scene) page {
		b := s.member()
		p := b.get("/account/two-step/setup")
		code, err := totp.GenerateCode(strings.ReplaceAll(textOf(p.id("totp-secret")), " ", ""), s.clock.now())
		if err != nil {
			s.t.Fatal(err)
		}
		return b.press(p, "setup-submit", map[string]string{"code": code})
	}},
	{"account_apps", "", func(s *scene) page {
		b := s.member()
		b.press(b.get(authorize(s.app(s.t), nil)), "consent-allow", nil)
		return b.get("/account/apps")
	}},
	{"account_apps", "none", func(s *scene) page { return s.open("/account/apps") }},
	{"account_agents", "", func(s *scene) page {
		b := s.member()
		b.letAct(s.world)
		return b.get("/account/agents")
	}},
	{"account_agents", "paused, with another behind it", func(s *scene) page {
		b := s.member()
		app, token := b.letAct(s.world)
		s.goOn(s.t, app, token)
		list, err := s.server.Agents(s.t.Context(), s.alice.ID)
		if err != nil || len(list) != 1 {
			s.t.Fatal(list, err)
		}
		return b.press(b.get("/account/agents"), "agent-pause-"+list[0].GrantID, nil)
	}},
	{"consent", "with APIs", func(s *scene) page { return s.member().get(s.reachAPIs(s.t, "")) }},
	{"consent", "in detail", func(s *scene) page { return s.member().get(s.reachAPIs(s.t, payRent)) }},
	{"account_requests", "", func(s *scene) page {
		b := s.member()
		muted, _ := s.callCentre(s.t, "Loud till")
		if err := s.server.MuteApp(s.t.Context(), identity.Session{UserID: s.alice.ID}, muted.ID); err != nil {
			s.t.Fatal(err)
		}
		s.ask(s.t, "Order 4711, 25 EUR")
		return b.get("/account/requests")
	}},
	{"account_requests", "none", func(s *scene) page { return s.open("/account/requests") }},
	{"account", "a request waits", func(s *scene) page { s.ask(s.t, "Order 4711"); return s.open("/account") }},
	{"consent", "request", func(s *scene) page {
		b := s.member()
		s.ask(s.t, "Order 4711, 25 EUR")
		return b.press(b.get("/account/requests"), s.requestButton(s.t, "open"), nil)
	}},
	{"consent", "agent", func(s *scene) page {
		return s.member().get(authorize(s.app(s.t, func(c *oauth.Client) { c.Agent = true }), nil))
	}},
	{"account_agents", "none", func(s *scene) page { return s.open("/account/agents") }},
	{"account_sessions", "", func(s *scene) page { s.member(); return s.open("/account/sessions") }},
	{"account_activity", "", func(s *scene) page { return s.open("/account/activity") }},
	{"account_disowned", "", func(s *scene) page {
		b := s.member()
		return b.press(b.get("/account/activity"), "not-me-submit", nil)
	}},
	{"account_privacy", "", func(s *scene) page { return s.open("/account/privacy") }},
	{"account_privacy", "a file waits", func(s *scene) page { return s.askForData(s.t, s.member()) }},
	{"account_delete", "", func(s *scene) page { return s.open("/account/privacy/delete") }},
	{"account_closed", "", func(s *scene) page { return s.member().closeAccount(alice) }},
	{"account_closing", "", func(s *scene) page { s.member().closeAccount(alice); return s.stranger().signIn(alice) }},
	{"confirm", "", func(s *scene) page {
		b := s.member()
		s.stale()
		return b.get("/account/email")
	}},
	{"login", "with other services", func(s *scene) page { s.acme(); return s.visiting("/login") }},
	{"register", "with other services", func(s *scene) page { s.acme(); return s.visiting("/register") }},
	{"connect", "", func(s *scene) page {
		return s.stranger().signInAt(s.acme(), ada())
	}},
	{"connect", "problems", func(s *scene) page {
		b := s.stranger()
		return b.press(b.signInAt(s.acme(), ada()), "create-submit", map[string]string{"new-email": "x"})
	}},
	{"error", "a sign-in elsewhere that cannot go on", func(s *scene) page { s.acme(); return s.visiting("/login/acme/callback?state=x") }},
	{"account_linked", "", func(s *scene) page {
		s.acme().link(s.t, s.alice, "ada-at-acme")
		return s.open("/account/linked?n=linked")
	}},
	{"account_linked", "none", func(s *scene) page { s.acme(); return s.open("/account/linked?n=last") }},
	{"account_password", "none yet", func(s *scene) page { return s.passwordless().get("/account/password") }},
	{"confirm", "elsewhere", func(s *scene) page { b := s.passwordless(); s.stale(); return b.get("/account/email") }},
	{"", "form_post, without the script that sends it", func(s *scene) page { // a page of oauth
		c := s.app(s.t, func(c *oauth.Client) { c.FirstParty = true })
		p := s.open(authorize(c, url.Values{"response_mode": {"form_post"}}))
		p.body = regexp.MustCompile(`(?s)<script>.*?</script>`).ReplaceAllString(p.body, "")
		return p
	}},
	{"inbox", "", func(s *scene) page { return s.onThisMachine("/inbox") }},
	{"inbox_mail", "", func(s *scene) page { return s.onThisMachine("/inbox/1") }},
}

// notSights are the GET routes that show no page of their own.
var notSights = map[string]string{
	"GET /assets/{file}": "a file",
	"GET /{$}":           "leads to the account",
	"/":                  "whatever is unknown",
}

// keyed is a browser in which alice has just added a passkey.
func (s *scene) keyed() *browser {
	s.t.Helper()
	b := s.member()
	b.addPasskey(s.world)
	return b
}

// onlyPasskey is a browser of alice, who has a passkey and no password.
func (s *scene) onlyPasskey() *browser {
	s.t.Helper()
	b := s.keyed()
	if _, err := s.db.Exec(s.t.Context(), `UPDATE users SET password_hash = '' WHERE id = $1`, s.alice.ID); err != nil {
		s.t.Fatal(err)
	}
	return b
}

// passkeyID is alice's passkey.
func (s *scene) passkeyID() string {
	s.t.Helper()
	list, err := s.people.Passkeys(s.t.Context(), s.alice.ID)
	if err != nil || len(list) == 0 {
		s.t.Fatalf("%d passkeys, err %v", len(list), err)
	}
	return list[0].ID
}

// anew begins the scene again at a server with other settings.
func (s *scene) anew(change ...func(c *Config)) {
	s.t.Helper()
	s.world = newWorld(s.t, change...)
	s.alice = s.person(s.t, alice)
}

// unproven is a browser in which bob has just signed up.
func (s *scene) unproven() *browser {
	s.t.Helper()
	if _, err := s.people.Create(s.t.Context(), identity.NewUser{Email: bob, Password: password}); err != nil {
		s.t.Fatal(err)
	}
	b := s.stranger()
	b.signIn(bob)
	return b
}

// acme is another service to sign in with.
func (s *scene) acme() *idp {
	s.t.Helper()
	return newIDP(s.t, s.world, "acme", trusted, func(p *upstream.Provider) { p.Domains = []string{"acme.test"} })
}

// passwordless is a browser of somebody who has signed up by another service.
func (s *scene) passwordless() *browser {
	s.t.Helper()
	b := s.stranger()
	atAccount(s.t, b.signInAt(s.acme(), ada(person{"email": "ada@acme.test"})))
	return b
}

// link is the token of a link in a mail.
func (s *scene) link(email string, purpose identity.Purpose) string {
	s.t.Helper()
	u, err := s.people.UserByEmail(s.t.Context(), email)
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := s.people.NewLink(s.t.Context(), u.ID, purpose, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// onThisMachine is a page of a server on loopback, with a mail in its inbox.
func (s *scene) onThisMachine(path string) page {
	s.t.Helper()
	site, err := url.Parse("http://localhost:8080")
	if err != nil {
		s.t.Fatal(err)
	}
	w := newWorld(s.t, func(c *Config) { c.Site = web.NewSite(site) })
	m := mail.Message{To: alice, Subject: "Confirm your email address", Text: "Open\n\nhttp://localhost:8080/verify/link?t=abc\n"}
	if err := w.inbox.Send(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
	mux := http.NewServeMux()
	web.Mount(mux, w.site, w.pages.Routes(), w.pages.Error)
	r := httptest.NewRequestWithContext(web.WithAddress(s.t.Context(), netip.MustParseAddr("127.0.0.1")), http.MethodGet, path, nil)
	r.Host = "localhost:8080"
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(httptest.NewRecorder(), r) // for the list of routes
	mux.ServeHTTP(rec, r)
	return pageOf(s.t, r.URL, rec.Result())
}

// axeTags are the rules that pages are held to: WCAG 2.0, 2.1 and 2.2, A and AA, and what axe calls best practice.
const axeTags = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]`

// violation is what axe found.
type violation struct {
	ID    string
	Help  string
	Nodes []struct {
		Target         []any
		FailureSummary string
	}
}

// Every page, in light on a desk and in dark on a small phone, by the rules of axe-core. On 320 pixels nothing has to be scrolled
// sideways (WCAG 2.2 §1.4.10).
func TestAccessible(t *testing.T) {
	t.Parallel()
	seen := &tally{pages: map[string]bool{}, routes: map[string]bool{}}
	w := newWorld(t, withMailCodes)
	g := newGallery(t, w.handler)
	for _, one := range sights {
		name := one.page
		if one.state != "" {
			name += " (" + one.state + ")"
		}
		t.Run(name, func(t *testing.T) {
			s := &scene{world: newWorld(t, withMailCodes), t: t}
			s.alice = s.person(t, alice)
			s.handler = seen.watch(s.handler, s.pages)
			p := one.show(s)
			if got := p.name(); got != one.page {
				t.Fatalf("%s shows %q; it says:\n%s", p.url, got, p.text())
			}
			seen.pages[one.page] = true
			for _, m := range []manner{desk, {"dark phone", night.scheme, 320, phone.height}} {
				g.show(p, m)
				if wide := look(g, "measure", chromedp.EvaluateAsDevTools[int](`document.documentElement.scrollWidth`)); wide > m.width {
					t.Errorf("%s: the page is %d pixels wide on a screen of %d", m.name, wide, m.width)
				}
				for _, v := range g.violations() {
					for _, n := range v.Nodes {
						t.Errorf("%s: %s: %s\n%s\n%s", m.name, v.ID, v.Help, fmt.Sprint(n.Target...), n.FailureSummary)
					}
				}
			}
		})
	}
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // some were chosen
	}
	pages, err := w.pages.locales[0].pages()
	if err != nil {
		t.Fatal(err)
	}
	for name := range pages {
		if !seen.pages[name] {
			t.Errorf("templates/%s.html: no sight shows it", name)
		}
	}
	for _, route := range w.pages.Routes() {
		method, _, ok := strings.Cut(route.Pattern, " ")
		if ok && method != http.MethodGet || notSights[route.Pattern] != "" {
			continue
		}
		if !seen.routes[route.Pattern] {
			t.Errorf("%s: no sight goes there", route.Pattern)
		}
	}
}

// violations runs axe in the page, as a person's own tools would: no policy of the page's concerns it.
func (g *gallery) violations() (found []violation) {
	g.t.Helper()
	source, err := os.ReadFile("../e2e/axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		g.t.Fatalf("%v: run the tests with `make test`, or scripts/npm.sh once", err)
	}
	look(g, "load axe", chromedp.EvaluateAsDevTools[chromedp.Void](string(source)))
	return look(g, "run axe", chromedp.EvaluateAsDevTools[[]violation](
		`axe.run(document, {runOnly: {type: "tag", values: `+axeTags+`}, resultTypes: ["violations"]}).then(r => r.violations)`, chromedp.EvalAwaitPromise))
}

// What the test above relies on: axe finds what is wrong, in the scheme and on the screen it is shown.
func TestAxeNoticesTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := newGallery(t, w.handler)
	p := w.browser(t).get("/login")
	p.body = strings.Replace(p.body, "<main", `<img src="x.png"><p class="trouble">hard to read</p><main`, 1)
	p.body = strings.Replace(p.body, "</head>", `<style>.trouble { color: #777 } @media (prefers-color-scheme: dark) { .trouble { color: #333 } }</style></head>`, 1)
	p.header.Del("Content-Security-Policy")
	g.show(p, night)
	found := map[string]bool{}
	for _, v := range g.violations() {
		found[v.ID] = true
	}
	for _, want := range []string{"image-alt", "color-contrast", "region"} {
		if !found[want] {
			t.Errorf("axe found %v, want %s among it", found, want)
		}
	}
}

// tally is what was shown.
type tally struct {
	mu            sync.Mutex
	pages, routes map[string]bool
}

// watch notes which routes are asked for.
func (c *tally) watch(next http.Handler, p *Pages) http.Handler {
	mux := http.NewServeMux()
	for _, route := range p.Routes() {
		mux.HandleFunc(route.Pattern, func(http.ResponseWriter, *http.Request) {})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		c.mu.Lock()
		c.routes[pattern] = true
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// name is the template of a page.
func (p page) name() string {
	for n := range p.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "body" {
			return attr(n, "data-page")
		}
	}
	return ""
}
