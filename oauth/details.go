package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	strict "github.com/go-jose/go-jose/v4/json" // refuses a member that stands twice

	"github.com/gatehouse-id/gatehouse/identity"
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

// decodeDetails reads the form of the parameter, not its meaning.
func decodeDetails(raw string) ([]map[string]any, bool) {
	var objects []map[string]any
	ok := len(raw) <= maxDetailsLength && strict.Unmarshal([]byte(raw), &objects) == nil && len(objects) > 0 && len(objects) <= maxDetails
	return objects, ok
}

// parseDetails reads the parameter. Types and schemas are looked at whenever details are used, not only when they were granted.
func (s *Server) parseDetails(ctx context.Context, client *registration, raw string) (details, error) {
	list, _, err := s.readDetails(ctx, client, raw)
	return list, err
}

// readDetails reads the parameter, and for which APIs each of the details is; none: for any.
func (s *Server) readDetails(ctx context.Context, client *registration, raw string) (list details, reach [][]string, err error) {
	if raw == "" {
		return nil, nil, nil
	}
	objects, ok := decodeDetails(raw)
	if !ok {
		return nil, nil, errDetails
	}
	for _, object := range objects {
		d, err := s.checkDetail(ctx, client, object)
		if err != nil {
			return nil, nil, err
		}
		one, err := json.Marshal(object)
		if err != nil {
			return nil, nil, err
		}
		if list.has(one) {
			continue
		}
		apis := d.APIs
		if locations, _ := object[locationsMember].([]any); len(locations) > 0 {
			apis = stringsOf(locations)
		}
		list, reach = append(list, one), append(reach, apis)
	}
	return list, reach, nil
}

// locationsMember names the APIs at which an object is meant to be used (RFC 9396 §2.2). Every type has it.
const locationsMember = "locations"

// checkLocations lets an object name APIs that the client may have, of those that its type is for.
func (s *Server) checkLocations(ctx context.Context, client *registration, d DetailsType, value any) error {
	list, ok := value.([]any)
	if !ok || len(list) == 0 || len(list) > maxResources {
		return errDetails
	}
	for _, one := range list {
		identifier, ok := one.(string)
		if !ok || len(d.APIs) > 0 && !slices.Contains(d.APIs, identifier) {
			return errDetails
		}
		if r, err := s.resource(ctx, client, identifier); err != nil {
			if describe(err).status < http.StatusInternalServerError {
				err = errDetails
			}
			return err
		} else if r.self {
			return errDetails
		}
	}
	return nil
}

func stringsOf(list []any) (out []string) {
	for _, one := range list {
		if text, ok := one.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// checkTargets wants that details lead to APIs which the request names, if it names any: else nobody would ever see them.
func checkTargets(rs resources, reach [][]string) error {
	apis := rs.registered()
	if len(apis) == 0 {
		return nil
	}
	for _, locations := range reach {
		if len(locations) > 0 && !slices.ContainsFunc(apis, func(a identity.API) bool { return slices.Contains(locations, a.Identifier) }) {
			return newError("invalid_authorization_details", "The authorization_details are for none of the resources.")
		}
	}
	return nil
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
		switch member {
		case "type":
		case locationsMember:
			if err := s.checkLocations(ctx, client, d, value); err != nil {
				return d, err
			}
		default:
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

// narrowDetails decides which details the tokens of a request carry: all that were granted, or those of them that it names (RFC 9396
// §6), and of these the ones that are for an API which the token is for (§11.4: no API learns what is meant for another).
func (s *Server) narrowDetails(ctx context.Context, client *registration, sess *session, raw string, audience []string) error {
	st := requestState(ctx)
	asked, reach, err := s.readDetails(ctx, client, raw)
	if err != nil {
		return err
	}
	for _, one := range asked {
		if !sess.Details.has(one) { // nothing was granted but what a person has read
			return errDetails
		}
	}
	if asked == nil {
		for _, one := range sess.Details { // what a type or the client's registration has come to forbid is left out
			again, apis, err := s.readDetails(ctx, client, "["+string(one)+"]")
			if err != nil && !errors.Is(err, errDetails) {
				return err
			}
			asked, reach = append(asked, again...), append(reach, apis...)
		}
	}
	for i, one := range asked {
		if len(reach[i]) == 0 || slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(reach[i], a) }) {
			st.details = append(st.details, one)
		}
	}
	return nil
}

// Detail is one thing that an app asks for in detail, for the consent page.
type Detail struct {
	Type string
	Raw  string // all of it

	kind   DetailsType
	object map[string]any
}

// Words is what a person reads about it, in parts: what the operator wrote, and what the app put in.
func (d Detail) Words(language string) []WordsPart { return d.kind.words(language, d.object) }

// Locations are the APIs at which it is meant to be used; none: any.
func (d Detail) Locations() []string {
	if list, _ := d.object[locationsMember].([]any); len(list) > 0 {
		return stringsOf(list)
	}
	return d.kind.APIs
}

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
