package ui

import (
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/gatehouse-id/gatehouse/identity"
)

// browser is a person's browser without JavaScript: it keeps cookies, follows redirects on the site and presses buttons.
type browser struct {
	t       testing.TB
	handler http.Handler
	people  *identity.Directory
	origin  *url.URL
	jar     http.CookieJar
	agent   string
	accept  string // Accept-Language
}

func (w *world) browser(t testing.TB) *browser {
	t.Helper()
	origin, err := url.Parse(w.site.Origin())
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, handler: w.handler, people: w.people, origin: origin, jar: jar, agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
}

// page is an answer as the browser shows it.
type page struct {
	t      testing.TB
	url    *url.URL
	status int
	header http.Header
	body   string
	doc    *html.Node
	away   string // where a redirect led off the site; the page is empty then
}

// get opens a path and follows redirects.
func (b *browser) get(path string) page {
	b.t.Helper()
	return b.follow(b.roundTrip(http.MethodGet, path, nil, nil))
}

// post sends a form as the site's own pages do, and follows redirects.
func (b *browser) post(path string, form url.Values) page {
	b.t.Helper()
	return b.follow(b.roundTrip(http.MethodPost, path, form, http.Header{"Sec-Fetch-Site": {"same-origin"}}))
}

// roundTrip sends one request.
func (b *browser) roundTrip(method, path string, form url.Values, header http.Header) page {
	b.t.Helper()
	u, err := b.origin.Parse(path)
	if err != nil {
		b.t.Fatalf("path %q: %v", path, err)
	}
	if !form.Has("person") && ofAnAccount(method, u.Path) { // a form made by hand is one of the person's own unless it says otherwise
		if s, err := b.people.Session(b.t.Context(), b.cookie("gatehouse-session")); err == nil {
			form = maps.Clone(form)
			if form == nil {
				form = url.Values{}
			}
			form.Set("person", s.UserID)
		}
	}
	r := httptest.NewRequestWithContext(b.t.Context(), method, u.String(), strings.NewReader(form.Encode()))
	r.RemoteAddr = "192.0.2.7:4711"
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", b.agent)
	if b.accept != "" {
		r.Header.Set("Accept-Language", b.accept)
	}
	if method == http.MethodPost && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range b.jar.Cookies(u) {
		r.AddCookie(c)
	}
	rec := httptest.NewRecorder()
	b.handler.ServeHTTP(rec, r)
	res := rec.Result()
	b.jar.SetCookies(u, res.Cookies())
	p := pageOf(b.t, u, res)
	if strings.HasPrefix(p.header.Get("Content-Type"), "text/html") && p.id("main") != nil {
		p.check()
	}
	return p
}

// pageOf reads an answer.
func pageOf(t testing.TB, u *url.URL, res *http.Response) page {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		t.Fatalf("%s: %v", u, err)
	}
	return page{t: t, url: u, status: res.StatusCode, header: res.Header, body: string(body), doc: doc}
}

// check holds every page that any test sees to what all pages promise: no caching, a strict policy, nothing inline, and
// the structure that screen readers and password managers need.
func (p page) check() {
	p.t.Helper()
	if got := p.header.Get("Cache-Control"); got != "no-store" {
		p.t.Errorf("page %s: Cache-Control %q, want no-store", p.url, got)
	}
	csp := p.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, part) {
			p.t.Errorf("page %s: Content-Security-Policy %q lacks %s", p.url, csp, part)
		}
	}
	ids := map[string]bool{}
	labels := map[string]bool{}
	headings := 0
	for n := range p.doc.Descendants() {
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				p.t.Errorf("page %s: id %q twice", p.url, id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "label":
			labels[attr(n, "for")] = true
		case "h1":
			headings++
		case "script":
			if src := attr(n, "src"); !strings.HasPrefix(src, "/") || !strings.Contains(src, "/assets/") || n.FirstChild != nil {
				p.t.Errorf("page %s: <script src=%q>", p.url, attr(n, "src"))
			}
		case "iframe":
			if attr(n, "sandbox") != "allow-scripts allow-same-origin" || attr(n, "title") == "" {
				p.t.Errorf("page %s: <iframe src=%q> is not held in", p.url, attr(n, "src"))
			}
		case "style":
			p.t.Errorf("page %s: <%s>", p.url, n.Data)
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || a.Key != "value" && strings.HasPrefix(a.Val, "javascript:") || strings.Contains(a.Val, "ZgotmplZ") {
				p.t.Errorf("page %s: <%s %s=%q>", p.url, n.Data, a.Key, a.Val)
			}
		}
	}
	if headings != 1 {
		p.t.Errorf("page %s: %d h1 headings, want 1", p.url, headings)
	}
	if strings.Contains(p.body, "[") && strings.Contains(p.text(), ".title]") || strings.Contains(p.text(), "%!") {
		p.t.Errorf("page %s lacks a text:\n%s", p.url, p.text())
	}
	for n := range p.doc.Descendants() {
		for _, id := range strings.Fields(attr(n, "aria-describedby")) {
			if !ids[id] {
				p.t.Errorf("page %s: aria-describedby names #%s, which is not there", p.url, id)
			}
		}
		switch n.Data {
		case "input", "select", "textarea", "meter":
			if attr(n, "type") != "hidden" && attr(n, "aria-hidden") != "true" && attr(n, "type") != "checkbox" && attr(n, "type") != "radio" && !labels[attr(n, "id")] {
				p.t.Errorf("page %s: <%s id=%q> has no label", p.url, n.Data, attr(n, "id"))
			}
		case "form":
			if ofAnAccount(strings.ToUpper(attr(n, "method")), attr(n, "action")) && !slices.ContainsFunc(fields(n), func(f *html.Node) bool { return attr(f, "name") == "person" && attr(f, "value") != "" }) {
				p.t.Errorf("page %s: the form to %s does not say to whom it was shown", p.url, attr(n, "action"))
			}
		case "img":
			if !hasAttr(n, "alt") {
				p.t.Errorf("page %s: image %s without alt", p.url, attr(n, "src"))
			}
		}
	}
}

// ofAnAccount reports whether a form acts on an account, which must be that of the person who saw it.
func ofAnAccount(method, path string) bool {
	return method == http.MethodPost && (strings.Contains(path, "/account") || strings.Contains(path, "/confirm") || strings.Contains(path, "/password/new"))
}

func fields(form *html.Node) (found []*html.Node) {
	for n := range form.Descendants() {
		if n.Data == "input" {
			found = append(found, n)
		}
	}
	return found
}

func (b *browser) follow(p page) page {
	b.t.Helper()
	for range 10 {
		location := p.header.Get("Location")
		if p.status < 300 || p.status >= 400 {
			if location = p.refresh(); location == "" {
				return p
			}
		}
		to, err := p.url.Parse(location)
		if err != nil {
			b.t.Fatalf("Location of %s: %v", p.url, err)
		}
		if to.Host != b.origin.Host {
			p.away = to.String()
			return p
		}
		p = b.roundTrip(http.MethodGet, to.RequestURI(), nil, nil)
	}
	b.t.Fatalf("redirects without end at %s", p.url)
	return p
}

// press fills the form around the button with an id, as people do, and sends it. The form must hold each field.
func (b *browser) press(p page, button string, fields map[string]string) page {
	b.t.Helper()
	path, values := p.form(button)
	for name, value := range fields {
		if !values.Has(name) {
			b.t.Fatalf("page %s: the form of #%s has no field %q", p.url, button, name)
		}
		values.Set(name, value)
	}
	return b.post(path, values)
}

// cookie gives the value of a cookie the browser would send.
func (b *browser) cookie(prefix string) string {
	for _, c := range b.jar.Cookies(b.origin) {
		if strings.HasPrefix(strings.TrimPrefix(c.Name, "__Host-"), prefix) {
			return c.Value
		}
	}
	return ""
}

// form reads the form that holds the button.
func (p page) form(button string) (path string, values url.Values) {
	p.t.Helper()
	b := p.id(button)
	if b == nil {
		p.t.Fatalf("page %s (%d) has no #%s; it says:\n%s", p.url, p.status, button, p.text())
	}
	form := b
	for form != nil && form.Data != "form" {
		form = form.Parent
	}
	if form == nil || attr(form, "method") != "post" {
		p.t.Fatalf("page %s: #%s is in no form with method=post", p.url, button)
	}
	values = url.Values{}
	for n := range form.Descendants() {
		if name := attr(n, "name"); name != "" && (n.Data == "input" || n.Data == "select" || n.Data == "textarea") {
			values.Set(name, attr(n, "value"))
		}
	}
	if name := attr(b, "name"); name != "" {
		values.Set(name, attr(b, "value"))
	}
	action := attr(form, "action")
	if own := attr(b, "formaction"); own != "" {
		action = own
	}
	to, err := p.url.Parse(action)
	if err != nil {
		p.t.Fatalf("page %s: action of the form of #%s: %v", p.url, button, err)
	}
	return to.RequestURI(), values
}

// id finds an element, nil if there is none.
func (p page) id(id string) *html.Node {
	for n := range p.doc.Descendants() {
		if attr(n, "id") == id {
			return n
		}
	}
	return nil
}

// want fails unless the page has each of the ids and the status.
func (p page) want(status int, ids ...string) page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("page %s: status %d, want %d; it says:\n%s", p.url, p.status, status, p.text())
	}
	for _, id := range ids {
		if p.id(id) == nil {
			p.t.Fatalf("page %s has no #%s; it says:\n%s", p.url, id, p.text())
		}
	}
	return p
}

// says fails unless the visible text holds each of the words.
func (p page) says(words ...string) page {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(p.text(), w) {
			p.t.Fatalf("page %s does not say %q; it says:\n%s", p.url, w, p.text())
		}
	}
	return p
}

// refresh is where the page moves on to by itself, or "".
func (p page) refresh() string {
	for n := range p.doc.Descendants() {
		if n.Data == "meta" && attr(n, "http-equiv") == "refresh" {
			return strings.TrimPrefix(attr(n, "content"), "0;url=")
		}
	}
	return ""
}

// links are the targets of all links.
func (p page) links() (targets []string) {
	for n := range p.doc.Descendants() {
		if n.Data == "a" {
			targets = append(targets, attr(n, "href"))
		}
	}
	return targets
}

// text is what the page says.
func (p page) text() string { return textOf(p.doc) }

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && !slices.Contains([]string{"style", "script"}, d.Parent.Data) {
			b.WriteString(d.Data)
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// setCookie plants a cookie in the browser.
func (b *browser) setCookie(name, value string) {
	b.jar.SetCookies(b.origin, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}
