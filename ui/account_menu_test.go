package ui

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// The way around the account lies open on a desk, and behind a button on a phone, without a script.
func TestAccountMenu(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	g := newGallery(t, w.handler)
	p := b.get("/account")
	seen := func(id string) bool {
		t.Helper()
		return look(g, "see "+id, chromedp.EvaluateAsDevTools[bool](`document.getElementById("`+id+`").checkVisibility()`))
	}
	g.show(p, desk)
	if !seen("sign-out") || seen("account-menu") {
		t.Error("on a desk the way around is not open, or has a button")
	}
	g.show(p, phone)
	if seen("sign-out") || !seen("account-menu") {
		t.Error("on a phone the way around lies over the page from the start, or has no button")
	}
	g.do("open the menu", chromedp.Click(chromedp.ID("account-menu"), chromedp.NodeVisible))
	if !seen("sign-out") {
		t.Error("the button does not open the way around")
	}
	for _, v := range g.violations() {
		t.Errorf("with the menu open: %s: %s", v.ID, v.Help)
	}
}
