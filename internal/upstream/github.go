package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/oauth2"
)

// githubAPI is where a GitHub keeps its API: the public one under a name of its own, an Enterprise Server under its own address.
func githubAPI(issuer string) string {
	if issuer == "https://github.com" {
		return "https://api.github.com"
	}
	return issuer + "/api/v3"
}

// githubUser is what matters of GET /user.
type githubUser struct {
	ID     int64  `json:"id"` // the login can change hands, the id cannot
	Login  string `json:"login"`
	Name   string `json:"name"`
	Blog   string `json:"blog"`
	Avatar string `json:"avatar_url"`
}

// githubEmail is one row of GET /user/emails.
type githubEmail struct {
	Email    string `json:"email"`
	Primary  bool   `json:"primary"`
	Verified bool   `json:"verified"`
}

// github reads who the person is from GitHub's API: GitHub signs nobody in by OpenID Connect.
func (s *Trips) github(ctx context.Context, p Provider, token *oauth2.Token) (who Identity, err error) {
	api, accept := githubAPI(p.Issuer), "application/vnd.github+json"
	var u githubUser
	if err := s.bearer(ctx, api+"/user", token, accept, &u); err != nil {
		return who, fmt.Errorf("user: %w", err)
	}
	if u.ID <= 0 {
		return who, errors.New("user has no id")
	}
	var emails []githubEmail
	if err := s.bearer(ctx, api+"/user/emails", token, accept, &emails); err != nil {
		return who, fmt.Errorf("addresses: %w", err)
	}
	claims := map[string]any{"name": u.Name, "preferred_username": u.Login, "nickname": u.Login, "website": u.Blog, "picture": u.Avatar}
	for _, e := range emails {
		if e.Primary { // any other address of the list may be one the person has long left
			claims["email"], claims["email_verified"] = e.Email, e.Verified
		}
	}
	who = p.identity(claims)
	who.Issuer, who.Subject, who.Label = p.Issuer, strconv.FormatInt(u.ID, 10), cmp.Or(u.Login, who.Label)
	return who, nil
}
