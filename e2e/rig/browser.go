package rig

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Browser visits pages as a browser without JavaScript does: it keeps cookies, follows redirects and pages that move on, and posts forms with the
// fields they came with. It stops before it leaves the site it is for, so that a test sees what an app would be sent.
type Browser struct {
	Site   string // the issuer; requests go nowhere else
	From   string // address that a proxy on loopback says the browser has; "" for no proxy
	Denies bool   // its person says no when asked for consent
	client *http.Client
}

// NewBrowser gives a browser without cookies.
func NewBrowser(site string) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // cannot fail without options
	}
	return &Browser{Site: site, client: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Cookies are those the browser would send to the site.
func (b *Browser) Cookies() []*http.Cookie {
	u, err := url.Parse(b.Site)
	if err != nil {
		return nil
	}
	return b.client.Jar.Cookies(u)
}

// Page is where a browser arrived. Left means that the site sent it elsewhere: then URL is the place it would go to, and
// there is no document.
type Page struct {
	URL    *url.URL
	Left   bool
	Status int
	Header http.Header
	Body   string
	doc    *html.Node
}

// Open visits an address; a path is one of the site.
func (b *Browser) Open(address string) (*Page, error) {
	if strings.HasPrefix(address, "/") {
		address = b.Site + address
	}
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return b.do(req)
}

// Post sends a form made by hand, as some other site's page could. origin is the Origin header, or "" for none.
func (b *Browser) Post(address, origin string, values url.Values) (*Page, error) {
	if strings.HasPrefix(address, "/") {
		address = b.Site + address
	}
	req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	return b.do(req)
}

// Submit presses the button with the given id (or name=value of the element with it) after filling fields into its form.
// Filling in a field that the form does not have is an error: it is the test's view of the page that is wrong.
func (b *Browser) Submit(p *Page, buttonID string, fields map[string]string) (*Page, error) {
	button := p.ByID(buttonID)
	if button == nil {
		return nil, fmt.Errorf("%s has no element with the id %q", p, buttonID)
	}
	form := ancestor(button, "form")
	if form == nil {
		return nil, fmt.Errorf("%s: %q stands in no form", p, buttonID)
	}
	values := formValues(form)
	for name, value := range fields {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("%s: the form of %q has no field %q, only %v", p, buttonID, name, values)
		}
		values.Set(name, value)
	}
	if name := attr(button, "name"); name != "" {
		values.Set(name, attr(button, "value"))
	}
	action, err := p.URL.Parse(attr(form, "action"))
	if err != nil {
		return nil, err
	}
	if a := attr(button, "formaction"); a != "" {
		if action, err = p.URL.Parse(a); err != nil {
			return nil, err
		}
	}
	if strings.EqualFold(attr(form, "method"), "post") {
		if !b.onSite(action) { // a form_post answer: what would be posted is what the test wants to see
			action.RawQuery = values.Encode()
			return &Page{URL: action, Left: true}, nil
		}
		return b.Post(action.String(), b.origin(), values)
	}
	action.RawQuery = values.Encode()
	return b.Open(action.String())
}

// SignIn goes to an app's authorization request, or to the page for a device's code, and through the pages that follow, giving the
// password and agreeing, until the site sends the person back to the app or says that the device will go on.
func (b *Browser) SignIn(authorize, email, password string) (*Page, error) {
	page, err := b.Open(authorize)
	for range 6 {
		switch {
		case err != nil || page.Left || page.ByID("device-done") != nil:
			return page, err
		case page.ByID("login-submit") != nil:
			page, err = b.Submit(page, "login-submit", map[string]string{"email": email, "password": password})
		case page.ByID("device-submit") != nil:
			page, err = b.Submit(page, "device-submit", nil)
		case page.ByID("consent-deny") != nil && b.Denies:
			page, err = b.Submit(page, "consent-deny", nil)
		case page.ByID("consent-allow") != nil:
			page, err = b.Submit(page, "consent-allow", nil)
		case page.away(b) != nil:
			return page.away(b), nil
		default:
			return page, fmt.Errorf("did not expect %s: %.300s", page, Text(page.doc))
		}
	}
	return page, fmt.Errorf("the pages do not end: still on %s", page)
}

// away is where the page's script posts a form at once, if that is another site: what would be posted stands in the query. So come
// the answers to an app that asked for response_mode=form_post.
func (p *Page) away(b *Browser) *Page {
	form := find(p.doc, func(n *html.Node) bool { return n.Data == "form" })
	if form == nil || find(p.doc, func(n *html.Node) bool { return n.Data == "script" }) == nil {
		return nil
	}
	action, err := p.URL.Parse(attr(form, "action"))
	if err != nil || b.onSite(action) {
		return nil
	}
	action.RawQuery = formValues(form).Encode()
	return &Page{URL: action, Left: true}
}

func (b *Browser) do(req *http.Request) (*Page, error) {
	for range 20 {
		if !b.onSite(req.URL) {
			return &Page{URL: req.URL, Left: true}, nil
		}
		req.Header.Set("User-Agent", "gatehouse-e2e")
		req.Header.Set("Accept", "text/html")
		resp, err := b.send(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		location := resp.Header.Get("Location")
		if resp.StatusCode < 300 || resp.StatusCode > 399 || location == "" {
			page := &Page{URL: req.URL, Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
			if page.doc, err = html.Parse(strings.NewReader(page.Body)); err != nil {
				return nil, err
			}
			if location = page.refresh(); location == "" {
				return page, nil
			}
		}
		next, err := req.URL.Parse(location)
		if err != nil {
			return nil, fmt.Errorf("redirect from %s: %w", req.URL, err)
		}
		if resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusPermanentRedirect {
			return nil, fmt.Errorf("%s redirects with %d, which would repeat a post", req.URL.Path, resp.StatusCode)
		}
		if req, err = http.NewRequest(http.MethodGet, next.String(), nil); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("too many redirects, last to " + req.URL.Path)
}

// send gives a request the traces of a proxy.
func (b *Browser) send(req *http.Request) (*http.Response, error) {
	if b.From != "" {
		req.Header.Set("X-Forwarded-For", b.From)
	}
	return b.client.Do(req)
}

func (b *Browser) onSite(u *url.URL) bool {
	return u.Scheme+"://"+u.Host == b.origin()
}

func (b *Browser) origin() string {
	u, err := url.Parse(b.Site)
	if err != nil {
		return b.Site
	}
	return u.Scheme + "://" + u.Host
}

// String names the page in messages, without the query: it may hold a code.
func (p *Page) String() string {
	return fmt.Sprintf("page %s (status %d, %q)", p.URL.Path, p.Status, p.Title())
}

// ByID finds an element, or nil.
func (p *Page) ByID(id string) *html.Node {
	return find(p.doc, func(n *html.Node) bool { return attr(n, "id") == id })
}

// FirstID is the first id that begins so, or "".
func (p *Page) FirstID(prefix string) string {
	if n := find(p.doc, func(n *html.Node) bool { return strings.HasPrefix(attr(n, "id"), prefix) }); n != nil {
		return attr(n, "id")
	}
	return ""
}

// Title is the text of the title element.
func (p *Page) Title() string {
	return Text(find(p.doc, func(n *html.Node) bool { return n.Data == "title" }))
}

// refresh is where the page moves on to by itself, or "".
func (p *Page) refresh() string {
	meta := find(p.doc, func(n *html.Node) bool { return n.Data == "meta" && attr(n, "http-equiv") == "refresh" })
	if meta == nil {
		return ""
	}
	return strings.TrimPrefix(attr(meta, "content"), "0;url=")
}

// Links are the targets of all links on the page.
func (p *Page) Links() []string {
	var out []string
	find(p.doc, func(n *html.Node) bool {
		if n.Data == "a" {
			out = append(out, attr(n, "href"))
		}
		return false
	})
	return out
}

// Text is what a person reads in an element.
func Text(n *html.Node) string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

func find(n *html.Node, match func(*html.Node) bool) *html.Node {
	if n == nil {
		return nil
	}
	if n.Type == html.ElementNode && match(n) {
		return n
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if found := find(c, match); found != nil {
			return found
		}
	}
	return nil
}

func ancestor(n *html.Node, tag string) *html.Node {
	for ; n != nil; n = n.Parent {
		if n.Type == html.ElementNode && n.Data == tag {
			return n
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// formValues are the fields of a form as it came; unchecked boxes and buttons send nothing.
func formValues(form *html.Node) url.Values {
	values := url.Values{}
	find(form, func(n *html.Node) bool {
		name := attr(n, "name")
		if name == "" {
			return false
		}
		switch n.Data {
		case "input":
			switch attr(n, "type") {
			case "submit", "button", "image", "reset":
			case "checkbox", "radio":
				if hasAttr(n, "checked") {
					values.Add(name, attr(n, "value"))
				}
			default:
				values.Add(name, attr(n, "value"))
			}
		case "textarea":
			values.Add(name, Text(n))
		case "select":
			option := find(n, func(o *html.Node) bool { return o.Data == "option" && hasAttr(o, "selected") })
			if option == nil {
				option = find(n, func(o *html.Node) bool { return o.Data == "option" })
			}
			if option != nil {
				values.Add(name, attr(option, "value"))
			}
		}
		return false
	})
	return values
}

func hasAttr(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}
