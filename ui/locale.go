package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/language"

	"github.com/gatehouse-id/gatehouse/identity"
)

// languages are the folders of locale/; the first is for people who speak none of them. oauth's metadata names the same.
var languages = []language.Tag{language.English, language.German, language.French, language.Spanish, language.Japanese, language.Arabic}

// locale is one language with its words. Pages hold the words fast when they are parsed, so each language has its own set.
type locale struct {
	Lang  string // BCP 47, for <html lang>
	Dir   string // ltr or rtl, for <html dir>
	texts texts
	pages func() (templates, error) // parsed when the first person speaks the language
}

type texts map[string]string

// text gives the words for a key; args fill its %s and %d.
func (l *locale) text(key string, args ...any) string {
	s, ok := l.texts[key]
	if !ok {
		return "[" + key + "]" // a test finds every key before a person does
	}
	if len(args) == 0 {
		return s
	}
	if l.Dir == "rtl" {
		args = isolate(args)
	}
	return fmt.Sprintf(s, args...)
}

// isolate keeps an address or a name that is written from left to right from tearing apart the sentence around it.
func isolate(args []any) []any {
	isolated := make([]any, len(args))
	for i, a := range args {
		if s, ok := a.(string); ok {
			a = "\u2068" + s + "\u2069" // first strong isolate … pop directional isolate
		}
		isolated[i] = a
	}
	return isolated
}

// many says a number of things in words: texts KEY.none (if there is one), KEY.one and KEY.many; Arabic also has KEY.two and
// KEY.few.
func (l *locale) many(key string, n int) string {
	if n == 0 {
		if s, ok := l.texts[key+".none"]; ok {
			return s
		}
	}
	form := pluralForm(l.Lang, n)
	if form == "one" || form == "two" {
		return l.text(key + "." + form)
	}
	return l.text(key+"."+form, n)
}

// pluralForm follows the plural rules of CLDR as far as our languages differ in what we count.
func pluralForm(lang string, n int) string {
	switch {
	case n == 1:
		return "one"
	case lang == "ar" && n == 2:
		return "two"
	case lang == "ar" && n%100 >= 3 && n%100 <= 10:
		return "few"
	}
	return "many"
}

// loadLocales reads all languages, in the order of languages.
func (p *Pages) loadLocales() error {
	for _, tag := range languages {
		l := &locale{Lang: tag.String(), Dir: "ltr"}
		if l.Lang == "ar" {
			l.Dir = "rtl"
		}
		var err error
		if l.texts, err = loadTexts(pageFiles, "locale/"+l.Lang); err != nil {
			return err
		}
		l.pages = sync.OnceValues(func() (templates, error) { return parseTemplates(pageFiles, p.functions(l)) })
		p.locales = append(p.locales, l)
	}
	_, err := p.locales[0].pages() // the others have the same templates
	return err
}

// loadTexts reads every file of a language; a key stands in one of them.
func loadTexts(files fs.FS, dir string) (texts, error) {
	names, err := fs.Glob(files, dir+"/*.json")
	if err != nil {
		return nil, err
	}
	all := texts{}
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		var some texts
		if err := json.Unmarshal(raw, &some); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for key, s := range some {
			if _, twice := all[key]; twice {
				return nil, fmt.Errorf("%s: %s stands in another file too", name, key)
			}
			all[key] = s
		}
	}
	return all, nil
}

// audience is what a request tells of the languages its person reads. It rides in the request's context, since mails
// behind the answer speak the language of the page too.
type audience struct {
	mu     sync.Mutex
	app    string                // ui_locales of the app that sent the person
	accept string                // Accept-Language of the browser
	token  string                // of the session, whose person may have said which language they prefer
	reader *identity.Preferences // of the same person, once the session was read
	picked *locale
	alone  bool // ask the stores nothing: they are what failed
}

type audienceKey struct{}

// heard gives every handler a request whose audience is known. It shows the handler's error as well, so that the page of
// an error speaks the language of the page it stands for.
func (p *Pages) heard(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		r = p.listen(r)
		if err := next(w, r); err != nil {
			p.Error(w, r, err)
		}
		return nil
	}
}

// listen gives the request an audience if it has none yet.
func (p *Pages) listen(r *http.Request) *http.Request {
	ctx := r.Context()
	if audienceOf(ctx) != nil {
		return r
	}
	a := &audience{accept: r.Header.Get("Accept-Language"), token: p.Site.SessionToken(r)}
	return r.WithContext(context.WithValue(ctx, audienceKey{}, a))
}

func audienceOf(ctx context.Context) *audience {
	a, _ := ctx.Value(audienceKey{}).(*audience)
	return a
}

// learn adds what a handler found out about a request's audience.
func learn(ctx context.Context, f func(a *audience)) {
	if a := audienceOf(ctx); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		f(a)
		a.picked = nil
	}
}

// locale is the language of the page that answers a request: what the app asked for (ui_locales, OpenID Connect Core
// §3.1.2.1), else what the person prefers, else what the browser says.
func (p *Pages) locale(ctx context.Context) *locale {
	a := audienceOf(ctx)
	if a == nil {
		return p.locales[0]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.picked == nil {
		a.picked = p.pick(ctx, a)
	}
	return a.picked
}

func (p *Pages) pick(ctx context.Context, a *audience) *locale {
	if l, ok := p.named(a.app); ok {
		return l
	}
	if l, ok := p.named(p.preferences(ctx, a).Language); ok {
		return l
	}
	return p.nearest(parseLanguages(a.accept))
}

// preferences are those of the person who is signed in, none without one. That they cannot be read is no reason to show no page.
func (p *Pages) preferences(ctx context.Context, a *audience) identity.Preferences {
	if a.alone {
		return identity.Preferences{}
	}
	if a.reader == nil && a.token != "" {
		s, err := p.People.Session(ctx, a.token)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			p.Log.WarnContext(ctx, "preferences not read", "err", err)
		}
		a.reader = &s.Preferences
	}
	if a.reader == nil {
		return identity.Preferences{}
	}
	return *a.reader
}

// theme is how the person who is signed in wants to see the page that answers a request; empty: as the device does.
func (p *Pages) theme(ctx context.Context) string {
	a := audienceOf(ctx)
	if a == nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.preferences(ctx, a).Theme
}

// localeFor is the language of a mail to a person: what they prefer, else that of the page which caused it.
func (p *Pages) localeFor(ctx context.Context, u identity.User) *locale {
	if l, ok := p.named(u.Preferences.Language); ok {
		return l
	}
	return p.locale(ctx)
}

// named finds the best language for a list, but only among those that the list itself names: where an app or a person
// wants one that we do not speak, the next source knows better than a cousin of it.
func (p *Pages) named(list string) (*locale, bool) {
	wanted := slices.DeleteFunc(parseLanguages(list), func(tag language.Tag) bool {
		base, _ := tag.Base()
		return !slices.ContainsFunc(p.locales, func(l *locale) bool { return l.Lang == base.String() })
	})
	if len(wanted) == 0 {
		return nil, false
	}
	return p.nearest(wanted), true
}

// nearest finds the language that people who read the wanted ones are most at home in.
func (p *Pages) nearest(wanted []language.Tag) *locale {
	_, i, _ := p.matcher.Match(wanted...)
	return p.locales[i]
}

// maxLanguages bounds, in bytes, what is read of a list of languages.
const maxLanguages = 256

// parseLanguages reads a list in the form of Accept-Language (RFC 9110 §12.5.4), the most wanted first; nil if it is malformed.
func parseLanguages(list string) []language.Tag {
	if len(list) > maxLanguages {
		list = list[:strings.LastIndexByte(list[:maxLanguages], ',')+1]
	}
	wanted, _, err := language.ParseAcceptLanguage(strings.TrimRight(list, ", "))
	if err != nil {
		return nil
	}
	return wanted
}

// uiLocales puts the tags of ui_locales into the form of Accept-Language. Each may be unknown or malformed.
func uiLocales(tags []string) string {
	var known []string
	for _, tag := range tags {
		if _, err := language.Parse(tag); err == nil {
			known = append(known, tag)
		}
		if len(known) == 8 {
			break
		}
	}
	return strings.Join(known, ", ")
}
