package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// callCentre registers an app that asks people without a browser of theirs.
func (w *world) callCentre(t testing.TB, name string) (app oauth.Client, secret string) {
	t.Helper()
	app, secret, err := w.clients.Create(t.Context(), oauth.Client{
		Name: name, Owner: "Example Ltd", AuthMethod: oauth.AuthPost, RequirePKCE: true, GrantTypes: []string{oauth.GrantCIBA, oauth.GrantRefreshToken},
	})
	if err != nil {
		t.Fatal(err)
	}
	return app, secret
}

// asker is an app that waits for alice's answer.
type asker struct {
	w   *world
	app oauth.Client
	url.Values
	id string // auth_req_id
}

// ask has an app ask alice something.
func (w *world) ask(t testing.TB, message string, extra ...string) *asker {
	t.Helper()
	app, secret := w.callCentre(t, "Call centre")
	a := &asker{w: w, app: app, Values: url.Values{"client_id": {app.ID}, "client_secret": {secret}}}
	a.again(t, append([]string{"binding_message", message}, extra...)...)
	return a
}

func (a *asker) again(t testing.TB, extra ...string) {
	t.Helper()
	form := url.Values{"scope": {"openid email"}, "login_hint": {alice}}
	for name, v := range a.Values {
		form[name] = v
	}
	for i := 0; i < len(extra); i += 2 {
		form.Set(extra[i], extra[i+1])
	}
	p := a.w.browser(t).roundTrip(http.MethodPost, "/bc-authorize", form, nil)
	var answer struct {
		ID string `json:"auth_req_id"`
	}
	if err := json.Unmarshal([]byte(p.body), &answer); err != nil || answer.ID == "" {
		t.Fatalf("ask: %d %s", p.status, p.body)
	}
	a.id = answer.ID
	a.w.pages.Wait()
}

// fetch asks for the answer.
func (a *asker) fetch(t testing.TB) page {
	t.Helper()
	form := url.Values{"grant_type": {oauth.GrantCIBA}, "auth_req_id": {a.id}}
	for name, v := range a.Values {
		form[name] = v
	}
	return a.w.browser(t).roundTrip(http.MethodPost, "/token", form, nil)
}

// requestButton is the id of a button for the first request that waits for alice.
func (w *world) requestButton(t testing.TB, what string) string {
	t.Helper()
	u, err := w.people.UserByEmail(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.server.Waiting(t.Context(), u.ID)
	if err != nil || len(list) == 0 {
		t.Fatalf("waiting: %v, %v", list, err)
	}
	return "request-" + what + "-" + list[0].ID
}

// mailsTo lists all mails to an address.
func (w *world) mailsTo(to string) (all []mail.Received) {
	w.pages.Wait()
	for _, m := range w.inbox.Messages() {
		if m.To == to {
			all = append(all, m)
		}
	}
	return all
}

func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	b.get("/account/requests").says("No app waits for your answer.")
	a := w.ask(t, "Order 4711")
	if m := w.mailsTo(alice); len(m) != 1 || !strings.Contains(m[0].Text, "/account/requests") || strings.Contains(m[0].Text, "4711") {
		t.Errorf("mails: %+v", m)
	}
	b.get("/account").says("An app waits for your answer.")
	p := b.get("/account/requests").says("Call centre", "Order 4711", "see your email address", "refuse")
	p = b.press(p, w.requestButton(t, "open"), nil).want(http.StatusOK, "consent-device").says("Order 4711", "did not begin in this browser")
	b.press(p, "consent-allow", nil).says("You allowed the request.", "No app waits")
	if got := a.fetch(t); got.status != http.StatusOK || !strings.Contains(got.body, "id_token") {
		t.Errorf("the app got %d %s", got.status, got.body)
	}
	b.get("/account/activity").says("An app asked you for permission", "You allowed an app's request")
	b.get("/account/apps").says("Call centre")

	a.again(t)
	b.press(b.get("/account/requests"), w.requestButton(t, "deny"), nil).says("You refused the request.")
	if got := a.fetch(t); !strings.Contains(got.body, "access_denied") {
		t.Errorf("the app got %d %s", got.status, got.body)
	}
	again := w.ask(t, "Another")
	p = b.press(b.get("/account/requests"), w.requestButton(t, "mute"), nil).says("The app may not ask you any more.", "Let it ask again")
	if got := again.fetch(t); !strings.Contains(got.body, "access_denied") {
		t.Errorf("the muted app got %d %s", got.status, got.body)
	}
	b.press(p, "unmute-"+again.app.ID, nil).says("The app may ask you again.")
}

func TestBindingMessageMarkup(t *testing.T) { // content injection by what an app writes
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	const evil = `<img src=x onerror=alert(1)><a href="//evil.test">click</a>`
	w.ask(t, evil)
	p := b.get("/account/requests").says(evil)
	for range 2 {
		if strings.Contains(p.body, "<img src=x") || strings.Contains(p.body, "//evil.test\"") {
			t.Errorf("%s draws the markup", p.url)
		}
		if p.id("consent-device") == nil {
			p = b.press(p, w.requestButton(t, "open"), nil).says(evil)
		}
	}
	for _, m := range w.mailsTo(alice) {
		if strings.Contains(m.Text, "evil.test") {
			t.Errorf("the mail repeats what the app wrote: %s", m.Text)
		}
	}
}

func TestPromptBombingByMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	for range 5 {
		w.ask(t, "please").again(t)
	}
	if n := len(w.mailsTo(alice)); n != requestMails {
		t.Errorf("%d mails, want %d", n, requestMails)
	}
}

func TestRequestOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	u := w.person(t, bob)
	thief := w.browser(t)
	thief.signIn(bob)
	a := w.ask(t, "Order 4711")
	id := strings.TrimPrefix(w.requestButton(t, "open"), "request-open-")
	for _, what := range []string{"open", "deny"} {
		for _, one := range []string{id, "", "nothing", strings.Repeat("A", 43)} {
			thief.follow(thief.post("/account/requests/"+what, url.Values{"person": {u.ID}, "request": {one}})).says("does not wait any more")
		}
	}
	thief.follow(thief.post("/account/requests/mute", url.Values{"person": {u.ID}, "client": {"invented"}})).says("does not wait any more")
	if got := a.fetch(t); !strings.Contains(got.body, "authorization_pending") {
		t.Errorf("the app got %d %s", got.status, got.body)
	}
}
