package ui

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// view is one page as it is about to be written.
type view struct {
	Name    string // templates/NAME.html
	Status  int    // 0: 200
	Title   string // text of the window's title; empty: the text NAME.title
	Content any    // what the page's template sees as its dot
	Wide    bool   // room for lists and long forms instead of the narrow card
	Nav     string // which entry of the account's navigation is current; empty: no navigation

	Challenge bool // a form of the page has one, which a script solves

	Plain   bool   // the page's script has nothing to do
	Refresh string // path of this site to move on to at once; empty: the page stays

	// The page's exceptions from the Content-Security-Policy.
	AppScheme string   // private-use scheme of a program that a form's answer may lead to
	ImageURL  string   // a client's logo
	Frames    []string // pages of apps in frames, to sign out there

	Lang, Dir, Theme, Brand, Script string // filled by render
	Linked                          bool   // there are other services to sign in with
}

// scripts are the pages with a script. They do all their work without it, and no other page may run any.
var scripts = map[string]string{
	"register": "strength.js", "reset": "strength.js", "password_new": "strength.js", "account_password": "strength.js",
	"logout_frames": "frames.js",
	"invitation":    "strength.js",
	"login":         "passkey.js", "passkey": "passkey.js", "confirm": "passkey.js", "account_passkey_new": "passkey.js",
}

// render writes a page. It is complete before its first byte goes out, so that a failing template gives an error page.
func (p *Pages) render(w http.ResponseWriter, r *http.Request, v view) error {
	l := p.locale(r.Context())
	pages, err := l.pages()
	if err != nil {
		return err
	}
	t, ok := pages[v.Name]
	if !ok {
		return fmt.Errorf("no page %q", v.Name)
	}
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	if v.Title == "" {
		v.Title = l.text(v.Name + ".title")
	}
	v.Theme = p.theme(r.Context())
	v.Lang, v.Dir, v.Brand, v.Script = l.Lang, l.Dir, p.Config.Name, scripts[v.Name]
	v.Linked = p.Upstream != nil && v.Nav != "" && len(p.Upstream.Providers.List()) > 0
	if v.Plain {
		v.Script = ""
	}
	var b bytes.Buffer
	b.Grow(8 << 10)
	if err := t.ExecuteTemplate(&b, "base", v); err != nil {
		return fmt.Errorf("page %s: %w", v.Name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Language", v.Lang)
	h.Add("Vary", "Accept-Language, Cookie")
	h.Set("Cache-Control", "no-store") // the back button after signing out shows nothing
	h.Set("Content-Security-Policy", policy(v))
	w.WriteHeader(v.Status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, _ = w.Write(b.Bytes()) // a browser that has gone away is no error of ours
	return nil
}

// policy forbids everything a page does not need: scripts, but for our own file on the pages that have one (XSS), being framed
// (clickjacking), sending forms elsewhere.
func policy(v view) string {
	form, img := "'self'", "'self' data:"
	if source := cspSource(v.AppScheme); source != "" {
		form += " " + source
	}
	if u, err := url.Parse(v.ImageURL); err == nil && v.ImageURL != "" {
		if source := cspSource(u.Scheme + "://" + u.Host); source != "" {
			img += " " + source
		}
	}
	script := ""
	if v.Script != "" || v.Challenge {
		script = "; script-src 'self'; connect-src 'self'"
	}
	for i, frame := range v.Frames {
		if i == 0 {
			script += "; frame-src"
		}
		if u, err := url.Parse(frame); err == nil {
			script += " " + cspSource(u.Scheme+"://"+u.Host)
		}
	}
	return "default-src 'none'" + script + "; style-src 'self'; img-src " + img + "; form-action " + form + "; frame-ancestors 'none'; base-uri 'none'"
}

// cspSource gives an origin or a scheme back if it can stand in a policy: nothing in it may end the directive (injection
// of a directive through a registered URI).
func cspSource(origin string) string {
	for _, c := range origin {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(":/.-+[]", c):
		default:
			return ""
		}
	}
	return origin
}

// functions are what templates may call; l gives their words.
func (p *Pages) functions(l *locale) template.FuncMap {
	return template.FuncMap{
		// t "login.title": the words for a key, filled with what follows.
		"t": l.text,
		// path "/forgot": the path of a page on this site. path "/login" .ID adds ?i=… if there is an interaction.
		"path": func(page string, interaction ...string) string {
			return p.Site.Path(withInteraction(page, interaction...))
		},
		// asset "gatehouse.css": the path of an asset, which changes with its content.
		"asset": func(name string) (string, error) {
			hashed, ok := p.assets.names[name]
			if !ok {
				return "", fmt.Errorf("no asset %q", name)
			}
			return p.Site.Path("/assets/" + hashed), nil
		},
		// problem .Errors "email": what is wrong with a field, under the field.
		"problem": func(errs identity.FieldErrors, field string) fieldProblem {
			return fieldProblem{Field: field, Key: errs[field]}
		},
		// invalid .Errors "email": ties the field to its problem and to its hint, if it has one, for screen readers.
		"invalid": func(errs identity.FieldErrors, field string, hints ...string) template.HTMLAttr {
			described := hints
			attr := ""
			if errs[field] != "" {
				described = append([]string{field + "-problem"}, hints...)
				attr = `aria-invalid="true" `
			}
			if len(described) > 0 {
				attr += `aria-describedby="` + strings.Join(described, " ") + `"`
			}
			return template.HTMLAttr(attr) //nolint:gosec // field and hints are literals of the templates
		},
	}
}

type fieldProblem struct{ Field, Key string }

// withInteraction adds the id of an interaction to a page's path, if there is one.
func withInteraction(page string, interaction ...string) string {
	if len(interaction) == 0 || interaction[0] == "" {
		return page
	}
	separator := "?"
	if strings.Contains(page, "?") {
		separator = "&"
	}
	return page + separator + "i=" + url.QueryEscape(interaction[0])
}

// templates holds each page with the base and the shared parts already in it.
type templates map[string]*template.Template

func parseTemplates(files fs.FS, functions template.FuncMap) (templates, error) {
	base, err := template.New("base").Funcs(functions).ParseFS(files, "templates/base.html", "templates/_*.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := templates{}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "base" || strings.HasPrefix(name, "_") {
			continue
		}
		page, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if pages[name], err = page.ParseFS(files, file); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// assets are served under names that carry a hash of the content, so that browsers may keep them for good.
type assets struct {
	names map[string]string // gatehouse.css → gatehouse.1a2b3c4d.css
	files map[string]asset  // by hashed name
}

type asset struct {
	mediaType string
	content   []byte
}

func loadAssets(files fs.FS) (assets, error) {
	a := assets{names: map[string]string{}, files: map[string]asset{}}
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		return a, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return a, err
		}
		ext := path.Ext(name)
		sum := sha256.Sum256(content)
		hashed := strings.TrimSuffix(path.Base(name), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		a.names[path.Base(name)] = hashed
		a.files[hashed] = asset{mime.TypeByExtension(ext), content}
	}
	return a, nil
}

func (p *Pages) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := p.assets.files[r.PathValue("file")]
	if !ok {
		return errUnknownPage
	}
	h := w.Header()
	h.Set("Content-Type", a.mediaType)
	h.Set("Content-Length", strconv.Itoa(len(a.content)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'") // an SVG opened by itself runs nothing
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.content)
	}
	return nil
}
