package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"

	strict "github.com/go-jose/go-jose/v4/json" // refuses a member that stands twice

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Bounds on authorization_details.
const (
	maxDetails       = 10
	maxDetailsLength = 4 << 10 // bytes of the parameter
)

var errDetails = newError("invalid_authorization_details", "The authorization_details are not valid, or of a type that the client may not ask for.")

// details are checked authorization_details (RFC 9396), each in the one form that json.Marshal gives it, so that equal ones are equal
// byte by byte.
type details []json.RawMessage

// parseDetails reads the parameter. Types and schemas are looked at whenever details are used, not only when they were granted.
func (s *Server) parseDetails(ctx context.Context, client *registration, raw string) (details, error) {
	if raw == "" {
		return nil, nil
	}
	var objects []map[string]any
	if len(raw) > maxDetailsLength || strict.Unmarshal([]byte(raw), &objects) != nil || len(objects) == 0 || len(objects) > maxDetails {
		return nil, errDetails
	}
	var list details
	for _, object := range objects {
		if _, err := s.checkDetail(ctx, client, object); err != nil {
			return nil, err
		}
		one, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		if !list.has(one) {
			list = append(list, one)
		}
	}
	return list, nil
}

// checkDetail finds the type of an object and holds the object against its schema.
func (s *Server) checkDetail(ctx context.Context, client *registration, object map[string]any) (DetailsType, error) {
	name, _ := object["type"].(string)
	if !slices.Contains(client.DetailsTypes, name) {
		return DetailsType{}, errDetails
	}
	d, err := s.DetailsTypes().Get(ctx, name)
	if errors.Is(err, db.ErrNotFound) {
		return d, errDetails
	}
	if err != nil {
		return d, err
	}
	rest := make(map[string]any, len(object))
	for member, value := range object {
		if member != "type" {
			rest[member] = value
		}
	}
	if !d.Schema.valid(rest) {
		return d, errDetails
	}
	return d, nil
}

// DetailsTypes gives the registered types.
func (s *Server) DetailsTypes() DetailsTypes { return DetailsTypes{s.DB, s.Audit, s.Now} }

func (d details) has(one json.RawMessage) bool {
	return slices.ContainsFunc(d, func(have json.RawMessage) bool { return bytes.Equal(have, one) })
}

// narrowDetails decides which details the tokens of a request carry: all that were granted, or those of them that it names.
func (s *Server) narrowDetails(ctx context.Context, client *registration, sess *session, raw string) error {
	st := requestState(ctx)
	asked, err := s.parseDetails(ctx, client, raw)
	if err != nil {
		return err
	}
	if asked == nil {
		for _, one := range sess.Details { // what a type or the client's registration has come to forbid is left out
			if again, err := s.parseDetails(ctx, client, "["+string(one)+"]"); err == nil {
				st.details = append(st.details, again...)
			} else if !errors.Is(err, errDetails) {
				return err
			}
		}
		return nil
	}
	for _, one := range asked {
		if !sess.Details.has(one) { // nothing was granted but what a person has read
			return errDetails
		}
	}
	st.details = asked
	return nil
}

// Detail is one thing that an app asks for in detail, for the consent page.
type Detail struct {
	Type string
	Raw  string // all of it

	kind   DetailsType
	object map[string]any
}

// Words is what a person reads about it.
func (d Detail) Words(language string) string { return d.kind.words(language, d.object) }

func (s *Server) publicDetails(ctx context.Context, req *authorization) ([]Detail, error) {
	var list []Detail
	for _, one := range req.details {
		d := Detail{Raw: string(one)}
		if err := json.Unmarshal(one, &d.object); err != nil {
			return nil, err
		}
		var err error
		if d.kind, err = s.checkDetail(ctx, req.client, d.object); err != nil {
			return nil, err
		}
		d.Type = d.kind.Type
		list = append(list, d)
	}
	return list, nil
}
