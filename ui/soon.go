package ui

import (
	"errors"
	"net/http"
)

var errSoon = errors.New("soon")

func (p *Pages) loginPage(w http.ResponseWriter, r *http.Request) error       { return errSoon }
func (p *Pages) login(w http.ResponseWriter, r *http.Request) error           { return errSoon }
func (p *Pages) codePage(w http.ResponseWriter, r *http.Request) error        { return errSoon }
func (p *Pages) code(w http.ResponseWriter, r *http.Request) error            { return errSoon }
func (p *Pages) recoveryPage(w http.ResponseWriter, r *http.Request) error    { return errSoon }
func (p *Pages) recovery(w http.ResponseWriter, r *http.Request) error        { return errSoon }
func (p *Pages) registerPage(w http.ResponseWriter, r *http.Request) error    { return errSoon }
func (p *Pages) register(w http.ResponseWriter, r *http.Request) error        { return errSoon }
func (p *Pages) verifyPage(w http.ResponseWriter, r *http.Request) error      { return errSoon }
func (p *Pages) verifyResend(w http.ResponseWriter, r *http.Request) error    { return errSoon }
func (p *Pages) verifyLinkPage(w http.ResponseWriter, r *http.Request) error  { return errSoon }
func (p *Pages) verifyLink(w http.ResponseWriter, r *http.Request) error      { return errSoon }
func (p *Pages) forgotPage(w http.ResponseWriter, r *http.Request) error      { return errSoon }
func (p *Pages) forgot(w http.ResponseWriter, r *http.Request) error          { return errSoon }
func (p *Pages) resetPage(w http.ResponseWriter, r *http.Request) error       { return errSoon }
func (p *Pages) reset(w http.ResponseWriter, r *http.Request) error           { return errSoon }
func (p *Pages) newPasswordPage(w http.ResponseWriter, r *http.Request) error { return errSoon }
func (p *Pages) newPassword(w http.ResponseWriter, r *http.Request) error     { return errSoon }
func (p *Pages) selectPage(w http.ResponseWriter, r *http.Request) error      { return errSoon }
func (p *Pages) selectAccount(w http.ResponseWriter, r *http.Request) error   { return errSoon }
func (p *Pages) consentPage(w http.ResponseWriter, r *http.Request) error     { return errSoon }
func (p *Pages) consent(w http.ResponseWriter, r *http.Request) error         { return errSoon }
func (p *Pages) logoutPage(w http.ResponseWriter, r *http.Request) error      { return errSoon }
func (p *Pages) logout(w http.ResponseWriter, r *http.Request) error          { return errSoon }
func (p *Pages) signedOutPage(w http.ResponseWriter, r *http.Request) error   { return errSoon }
