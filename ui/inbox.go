package ui

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"

	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// onThisMachine lets only browsers on the server's own machine through, and only while the site itself lives there. The
// inbox holds everybody's reset links: on a network it would hand out every account. The Host header must name this
// machine as well, so that a page elsewhere cannot read it under a name of its own that it points here (DNS rebinding).
func (p *Pages) onThisMachine(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		site, err := url.Parse(p.Site.Origin())
		host := url.URL{Host: r.Host}
		if err != nil || !loopback(site.Hostname()) || !loopback(host.Hostname()) {
			return errUnknownPage
		}
		if a := web.Address(r.Context()); !a.Unmap().IsLoopback() {
			return errUnknownPage
		}
		return next(w, r)
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

type inboxPage struct{ Mails []inboxRow }

type inboxRow struct {
	Number      int
	To, Subject string
	At          string
}

func (p *Pages) inboxPage(w http.ResponseWriter, r *http.Request) error {
	var page inboxPage
	for _, m := range p.Inbox.Messages() {
		page.Mails = append(page.Mails, p.inboxRow(r.Context(), m))
	}
	return p.render(w, r, view{Name: "inbox", Content: page, Wide: true})
}

func (p *Pages) inboxRow(ctx context.Context, m mail.Received) inboxRow {
	return inboxRow{m.Number, m.To, m.Subject, p.locale(ctx).when(m.At, p.Now(), "")}
}

type inboxMailPage struct {
	inboxRow
	Text []span
}

// span is a run of a mail's text, or a link in it.
type span struct{ Text, Link string }

func (p *Pages) inboxMailPage(w http.ResponseWriter, r *http.Request) error {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return errUnknownPage
	}
	m, ok := p.Inbox.Message(n)
	if !ok {
		return errUnknownPage
	}
	return p.render(w, r, view{Name: "inbox_mail", Title: m.Subject, Content: inboxMailPage{p.inboxRow(r.Context(), m), spans(m.Text)}, Wide: true})
}

var linkPattern = regexp.MustCompile(`https?://[^\s<>"]+`)

// spans finds the links in a text.
func spans(text string) []span {
	var list []span
	end := 0
	for _, at := range linkPattern.FindAllStringIndex(text, -1) {
		if at[0] > end {
			list = append(list, span{Text: text[end:at[0]]})
		}
		list = append(list, span{Link: text[at[0]:at[1]]})
		end = at[1]
	}
	if end < len(text) {
		list = append(list, span{Text: text[end:]})
	}
	return list
}
