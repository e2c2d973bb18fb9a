package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func TestActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.app(t, func(c *oauth.Client) { c.Name = "Demo <b>app</b>" })
	b, u := w.member(t, alice)
	b.press(b.get(authorize(app, nil)).want(http.StatusOK, "consent-allow"), "consent-allow", nil)
	stranger := w.browser(t)
	stranger.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1"
	stranger.press(stranger.get("/login"), "login-submit", map[string]string{"email": alice, "password": "not the password"})

	p := b.get("/account/activity").want(http.StatusOK, "activity", "not-me-submit").
		says("Signed in", "Account created", "App allowed", "Demo <b>app</b>", "Firefox on Linux", "Sign-in with a wrong password", "Refused", "Safari on iPhone", "192.0.2.7", "just now")
	forbidden(t, p.body, "<b>app", "[activity", u.ID+"_")
	if wrong, signedIn := strings.Index(p.body, "wrong password"), strings.Index(p.body, "Account created"); wrong > signedIn {
		t.Error("the newest act does not come first")
	}

	other, _ := w.member(t, bob)
	forbidden(t, other.get("/account/activity").body, "Demo", "iPhone", "wrong password")
	b.get("/account/activity?before=x").want(http.StatusBadRequest, "error-page")
	w.browser(t).get("/account/activity").at("/login")
}

func TestActivityPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	for range 2*activityPerPage - 3 { // beside the creation of the account, the password and the sign-in
		w.pages.Audit.Record(t.Context(), audit.Event{Action: "profile.set", UserID: u.ID})
		w.clock.forward(time.Second)
	}
	p := b.get("/account/activity").want(http.StatusOK, "activity", "older")
	forbidden(t, p.body, "Account created", `id="newest"`)
	p = b.get("/account/activity?before="+url.QueryEscape(formatPosition(w.position(t, u.ID, activityPerPage)))).want(http.StatusOK, "activity", "newest").says("Account created")
	forbidden(t, p.body, `id="older"`)
	b.get("/account/activity?before=2000-01-01T00:00:00Z_x").want(http.StatusOK, "newest").says("Nothing has happened yet.")
}

// position is right behind the nth act of a person's trail.
func (w *world) position(t testing.TB, userID string, n int) audit.Position {
	t.Helper()
	acts, err := w.pages.Audit.Trail(t.Context(), userID, audit.Position{}, n)
	if err != nil || len(acts) != n {
		t.Fatalf("got %d acts, %v", len(acts), err)
	}
	return acts[n-1].Position()
}

func TestThisWasNotMe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.app(t)
	b, u := w.member(t, alice)
	b.press(b.get(authorize(app, nil)), "consent-allow", nil)
	thief := w.browser(t)
	thief.signIn(alice).want(http.StatusOK, "sign-out")

	p := b.press(b.get("/account/activity"), "not-me-submit", nil).want(http.StatusOK, "disowned").
		says("All devices are signed out", "Every app has lost access", "We have sent a link to "+alice)
	if p.url.Path != "/account/activity/not-me" || b.cookie("gatehouse-session") != "" {
		t.Errorf("at %s, with the cookie %q", p.url, b.cookie("gatehouse-session"))
	}
	for name, browser := range map[string]*browser{"the thief": thief, "the person": b} {
		if got := browser.get("/account").url.Path; got != "/login" {
			t.Errorf("%s is at %s, want signed out", name, got)
		}
	}
	if link := w.mailLink(t, alice); !strings.HasPrefix(link, "/reset?t=") {
		t.Errorf("the mail leads to %s", link)
	}
	acts, err := w.pages.Audit.Trail(t.Context(), u.ID, audit.Position{}, 20)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range acts {
		names = append(names, a.Action)
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "account.disown") || !strings.Contains(all, "session.end_all") {
		t.Errorf("trail: %s", all)
	}
}

// However often somebody presses, no mailbox overflows, and the page claims no mail that was not sent.
func TestAttackMailboxFilledByDisowning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	claimed := 0
	for range mailsPerHour + 2 {
		b := w.browser(t)
		b.signIn(alice)
		if p := b.press(b.get("/account/activity"), "not-me-submit", nil).want(http.StatusOK, "disowned"); strings.Contains(p.text(), "sent a link") {
			claimed++
		}
	}
	w.pages.Wait()
	if sent := len(w.inbox.Messages()); sent != mailsPerHour || claimed != sent {
		t.Errorf("%d mails sent and %d claimed, want %d", sent, claimed, mailsPerHour)
	}
}

// Each act that the code records has words for a person, and so has its failure.
func TestEveryActHasWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.pages.locales[0]
	acts := actsInCode(t)
	if len(acts) < 30 {
		t.Fatalf("found %d acts: the search is broken", len(acts))
	}
	for act, where := range acts {
		_, ok := l.texts["activity."+act]
		if _, failure := l.texts["activity."+act+".failure"]; !ok && !failure {
			t.Errorf("%s records %q, for which there is no text activity.%s", where, act, act)
		}
	}
	for key := range l.texts {
		act, is := strings.CutPrefix(key, "activity.")
		if act = strings.TrimSuffix(act, ".failure"); is && act != "locked" && acts[act] == "" {
			t.Errorf("nothing records the act of the text %q", key)
		}
	}
}

// actsInCode finds the names of acts: Action of an audit.Event, what functions get for a parameter called action, and what a
// variable called action is set to.
func actsInCode(t *testing.T) map[string]string {
	t.Helper()
	var files []*ast.File
	set := token.NewFileSet()
	for _, dir := range []string{".", "../identity", "../oauth", "../consent", "../keys", "../cmd/gatehouse"} {
		names, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	takes := map[string]int{} // function → position of its parameter action
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := 0
			for _, field := range fn.Type.Params.List {
				for _, name := range field.Names {
					if name.Name == "action" {
						takes[fn.Name.Name] = n
					}
					n++
				}
			}
		}
	}
	found := map[string]string{}
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(s, ".") {
				found[s] = set.Position(lit.Pos()).String()
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Action" {
					add(n.Value)
				}
			case *ast.CallExpr:
				name := ""
				switch fun := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = fun.Sel.Name
				case *ast.Ident:
					name = fun.Name
				}
				if i, ok := takes[name]; ok && i < len(n.Args) {
					add(n.Args[i])
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if id, ok := left.(*ast.Ident); ok && id.Name == "action" && len(n.Lhs) == len(n.Rhs) {
						add(n.Rhs[i])
					}
				}
			}
			return true
		})
	}
	return found
}

func FuzzPosition(f *testing.F) {
	f.Add("2026-03-10T23:30:00.000001Z_01a209bd")
	f.Add("2026-03-10T23:30:00+14:00_x")
	f.Add("_")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		at, ok := parsePosition(text)
		if !ok || text == "" {
			return
		}
		again, ok := parsePosition(formatPosition(at))
		if !ok && len(formatPosition(at)) <= maxPosition || ok && (!again.At.Equal(at.At) || again.ID != at.ID) {
			t.Errorf("%q is %v, and again %v", text, at, again)
		}
	})
}
