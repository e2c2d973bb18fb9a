package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func (w *world) attribute(t *testing.T, a Attribute) Attribute {
	t.Helper()
	a, err := w.CreateAttribute(t.Context(), "", a)
	wantNil(t, "attribute "+a.Name, err)
	return a
}

func (w *world) values(t *testing.T, userID string) map[string]string {
	t.Helper()
	held, err := w.AttributesOf(t.Context(), userID)
	wantNil(t, "values", err)
	m := map[string]string{}
	for _, h := range held {
		m[h.Name] = string(h.Value)
	}
	return m
}

func TestAttributeValues(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		a     Attribute
		typed string
		want  string // JSON
		key   string
	}{
		{"text", Attribute{Type: TypeString}, " Ada ", `"Ada"`, ""},
		{"text with bidi control", Attribute{Type: TypeString}, "a\u202eb", "", KeyCharacters},
		{"text too long", Attribute{Type: TypeString}, strings.Repeat("x", 501), "", KeyTooLong},
		{"lines in a text", Attribute{Type: TypeString}, "a\nb", "", KeyCharacters},
		{"pattern", Attribute{Type: TypeString, Pattern: "E[0-9]{4}"}, "E1234", `"E1234"`, ""},
		{"pattern in the middle", Attribute{Type: TypeString, Pattern: "E[0-9]{4}"}, "xE1234", "", KeyPattern},
		{"pattern of alternatives", Attribute{Type: TypeString, Pattern: "a|b"}, "ab", "", KeyPattern},
		{"none", Attribute{Type: TypeString}, "  ", `null`, ""},
		{"none where one is required", Attribute{Type: TypeString, Required: true}, "", "", KeyRequired},
		{"number", Attribute{Type: TypeNumber}, "42", `42`, ""},
		{"fraction", Attribute{Type: TypeNumber}, "-1.5", `-1.5`, ""},
		{"no number", Attribute{Type: TypeNumber}, "NaN", "", KeyNumber},
		{"infinite", Attribute{Type: TypeNumber}, "1e999", "", KeyNumber},
		{"hexadecimal", Attribute{Type: TypeNumber}, "0x10p1", "", KeyNumber},
		{"yes", Attribute{Type: TypeBoolean}, "true", `true`, ""},
		{"no", Attribute{Type: TypeBoolean}, "false", `false`, ""},
		{"neither", Attribute{Type: TypeBoolean}, "yes", "", KeyOption},
		{"date", Attribute{Type: TypeDate}, "2024-02-29", `"2024-02-29"`, ""},
		{"no date", Attribute{Type: TypeDate}, "2023-02-29", "", KeyBirthdateInvalid},
		{"option", Attribute{Type: TypeEnum, Options: []string{"a", "b"}}, "b", `"b"`, ""},
		{"no option", Attribute{Type: TypeEnum, Options: []string{"a", "b"}}, "c", "", KeyOption},
		{"list", Attribute{Type: TypeList}, "a\r\nb\n\n a \n", `["a","b"]`, ""},
		{"list of options", Attribute{Type: TypeList, Options: []string{"a"}}, "a\nb", "", KeyOption},
		{"list too long", Attribute{Type: TypeList}, strings.Repeat("a\nb\nc\nd\ne\nf\ng\nh\n", 1) + "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13", "", KeyTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantNil(t, "compile", tc.a.compile())
			v, key := tc.a.Parse(tc.typed)
			if key != tc.key {
				t.Fatalf("got key %q, want %q", key, tc.key)
			}
			if b, err := json.Marshal(v); tc.key == "" && (err != nil || string(b) != tc.want) {
				t.Errorf("got %s, %v; want %s", b, err, tc.want)
			}
		})
	}
}

func FuzzAttributeParse(f *testing.F) {
	for _, seed := range []string{"", "1", "true", "2024-02-29", "a\nb", "1e308", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		for _, kind := range []string{TypeString, TypeNumber, TypeBoolean, TypeDate, TypeEnum, TypeList} {
			a := Attribute{Type: kind}
			v, key := a.Parse(typed)
			if key != "" || v == nil {
				continue
			}
			plain, err := json.Marshal(v)
			if err != nil {
				t.Fatalf("%s %q: %v", kind, typed, err)
			}
			again, key := a.Parse(HeldAttribute{Value: plain}.Typed())
			if b, _ := json.Marshal(again); kind != TypeNumber && (key != "" || !bytes.Equal(b, plain)) {
				t.Errorf("%s %q: shown and sent again it is %s, %q; it was %s", kind, typed, b, key, plain)
			}
		}
	})
}

func TestAttributeDefinitions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, tc := range map[string]struct {
			a     Attribute
			field string
		}{
			"no name": {Attribute{Type: TypeString}, "name"}, "capital": {Attribute{Name: "Badge", Type: TypeString}, "name"},
			"no type": {Attribute{Name: "a"}, "type"}, "enum without options": {Attribute{Name: "a", Type: TypeEnum}, "option"},
			"options of a text":    {Attribute{Name: "a", Type: TypeString, Options: []string{"x"}}, "option"},
			"broken pattern":       {Attribute{Name: "a", Type: TypeString, Pattern: "("}, "pattern"},
			"pattern of a number":  {Attribute{Name: "a", Type: TypeNumber, Pattern: "1"}, "pattern"},
			"edited but not shown": {Attribute{Name: "a", Type: TypeString, Edit: ForPerson}, "edit"},
			"shown to whom":        {Attribute{Name: "a", Type: TypeString, View: "all"}, "view"},
		} {
			_, err := w.CreateAttribute(t.Context(), "", tc.a)
			var wrong FieldErrors
			if !errors.As(err, &wrong) || wrong[tc.field] == "" {
				t.Errorf("%s: got %v, want a problem with %s", name, err, tc.field)
			}
		}
		a := w.attribute(t, Attribute{Name: "badge", Type: TypeString})
		if a.Label != "badge" || a.View != ForAdmin || a.Edit != ForAdmin {
			t.Errorf("defaults: %+v", a)
		}
		_, err := w.CreateAttribute(t.Context(), "", Attribute{Name: "badge", Type: TypeNumber})
		wantErr(t, "same name", err, ErrNameTaken)
	})
}

func TestAttributesOfPeople(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		ada, bob := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		w.attribute(t, Attribute{Name: "badge", Type: TypeString, Pattern: "E[0-9]+", View: ForPerson})
		w.attribute(t, Attribute{Name: "size", Type: TypeEnum, Options: []string{"S", "M"}, View: ForPerson, Edit: ForPerson})
		w.attribute(t, Attribute{Name: "level", Type: TypeNumber})
		wantNil(t, "set", w.SetAttributes(ctx, "boss", ada.ID, false, map[string]string{"badge": "E12", "level": "3", "size": "M"}))
		if diff := cmp.Diff(map[string]string{"badge": `"E12"`, "level": "3", "size": `"M"`}, w.values(t, ada.ID)); diff != "" {
			t.Error(diff)
		}
		if got := w.values(t, bob.ID); len(got) > 0 {
			t.Errorf("bob has %v", got)
		}
		// All or nothing.
		err := w.SetAttributes(ctx, "", ada.ID, false, map[string]string{"badge": "nonsense", "level": "4"})
		wantField(t, "bad value", err, "badge", KeyPattern)
		wantErr(t, "unknown", w.SetAttributes(ctx, "", ada.ID, false, map[string]string{"nothing": "x"}), ErrNotFound)
		wantErr(t, "nobody", w.SetAttributes(ctx, "", "x", false, map[string]string{"level": "1"}), ErrNotFound)
		if got := w.values(t, ada.ID)["level"]; got != "3" {
			t.Errorf("level is %s after refused changes", got)
		}
		wantNil(t, "by the person", w.SetAttributes(ctx, ada.ID, ada.ID, true, map[string]string{"size": ""}))
		if _, ok := w.values(t, ada.ID)["size"]; ok {
			t.Error("an emptied value is still there")
		}
		// In the person's file, whoever may see it on pages.
		h, err := w.Holdings(ctx, ada.ID)
		if err != nil || len(h.Rights.Attributes) != 2 {
			t.Errorf("holdings: %+v, %v", h.Rights.Attributes, err)
		}
		// Sealed, and for this place alone.
		var sealed []byte
		wantNil(t, "row", w.db.QueryRow(ctx, `SELECT ua.sealed FROM user_attributes ua JOIN attributes a ON a.id = ua.attribute_id WHERE ua.user_id = $1 AND a.name = 'badge'`, ada.ID).Scan(&sealed))
		if bytes.Contains(sealed, []byte("E12")) {
			t.Error("a value lies open in the database")
		}
		if n, err := w.db.Exec(ctx, `UPDATE user_attributes SET sealed = $1 WHERE user_id = $2`, sealed, ada.ID); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := w.AttributesOf(ctx, ada.ID); err == nil {
			t.Error("a value of one attribute opens as another's")
		}
		wantNil(t, "erase", w.Delete(ctx, ada.ID))
		var n int
		wantNil(t, "count", w.db.QueryRow(ctx, `SELECT COUNT(*) FROM user_attributes`).Scan(&n))
		if n != 0 {
			t.Errorf("%d values of somebody who is erased", n)
		}
	})
}

func TestAttackPersonSetsWhatOnlyOperatorsMay(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.attribute(t, Attribute{Name: "clearance", Type: TypeString, View: ForPerson})
		w.attribute(t, Attribute{Name: "nick", Type: TypeString, View: ForPerson, Edit: ForPerson})
		wantErr(t, "set", w.SetAttributes(t.Context(), u.ID, u.ID, true, map[string]string{"nick": "x", "clearance": "top"}), ErrNotFound)
		if got := w.values(t, u.ID); len(got) > 0 {
			t.Errorf("set %v", got)
		}
	})
}

// What apps rely on is never an attribute's to say.
func TestAttackAttributePosesAsStandardClaim(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.attribute(t, Attribute{Name: "a", Type: TypeString}), w.attribute(t, Attribute{Name: "b", Type: TypeString})
		for _, claim := range []string{"sub", "SUB", "email_verified", "acr", "groups", "Roles", "permissions", "iss", "aud", "scope", "cnf", "act", "name"} {
			wantField(t, claim, w.MapAttribute(t.Context(), "", a.ID, AttributeClaim{Claim: claim, Scope: "profile"}), "claim", KeyReserved)
		}
		wantField(t, "no claim", w.MapAttribute(t.Context(), "", a.ID, AttributeClaim{Claim: "a b", Scope: "profile"}), "claim", KeyCharacters)
		for _, scope := range []string{"openid", "offline_access"} {
			wantField(t, scope, w.MapAttribute(t.Context(), "", a.ID, AttributeClaim{Claim: "x", Scope: scope}), "scope", KeyReserved)
		}
		wantNil(t, "map", w.MapAttribute(t.Context(), "", a.ID, AttributeClaim{Claim: "badge", Scope: "profile"}))
		wantErr(t, "two attributes for one claim", w.MapAttribute(t.Context(), "", b.ID, AttributeClaim{Claim: "Badge", Scope: "work"}), ErrNameTaken)
		wantErr(t, "nothing", w.MapAttribute(t.Context(), "", "x", AttributeClaim{Claim: "y", Scope: "work"}), ErrNotFound)
		wantErr(t, "unmap what is not mapped", w.UnmapAttribute(t.Context(), "", b.ID, "badge", ""), ErrNotFound)
		wantNil(t, "unmap", w.UnmapAttribute(t.Context(), "", a.ID, "badge", ""))
		wantNil(t, "map the other", w.MapAttribute(t.Context(), "", b.ID, AttributeClaim{Claim: "badge", Scope: "work"}))
	})
}

func TestAttributeClaims(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		u := w.create(t, "ada@example.com")
		badge := w.attribute(t, Attribute{Name: "badge", Type: TypeString})
		level := w.attribute(t, Attribute{Name: "level", Type: TypeNumber})
		// Another process has read the definitions already.
		other := &world{Directory: must(open(ctx, w.config, testCost))}
		if got, err := other.AttributeClaims(ctx, u.ID, "shop", []string{"work"}, InUserinfo); len(got) > 0 || err != nil {
			t.Errorf("before: %v, %v", got, err)
		}
		wantNil(t, "map", w.MapAttribute(ctx, "", badge.ID, AttributeClaim{Claim: "badge_no", Scope: "work"}))
		wantNil(t, "map", w.MapAttribute(ctx, "", level.ID, AttributeClaim{Claim: "level", Scope: "work", ClientID: "shop"}))
		wantNil(t, "set", w.SetAttributes(ctx, "", u.ID, false, map[string]string{"badge": "E1", "level": "3"}))
		wantNil(t, "poll", other.PollAttributes(ctx))
		for name, tc := range map[string]struct {
			client string
			scopes []string
			want   map[string]string
		}{
			"scope and client":   {"shop", []string{"openid", "work"}, map[string]string{"badge_no": `"E1"`, "level": "3"}},
			"another client":     {"till", []string{"work"}, map[string]string{"badge_no": `"E1"`}},
			"without the scope":  {"shop", []string{"openid", "profile"}, map[string]string{}},
			"client of a prefix": {"sho", []string{"work"}, map[string]string{"badge_no": `"E1"`}},
		} {
			for which, d := range map[string]*Directory{"here": w.Directory, "elsewhere": other.Directory} {
				claims, err := d.AttributeClaims(ctx, u.ID, tc.client, tc.scopes, InUserinfo)
				wantNil(t, name, err)
				got := map[string]string{}
				for k, v := range claims {
					got[k] = string(v)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s, %s (-want +got):\n%s", name, which, diff)
				}
			}
		}
		// Deleted and made anew: nobody has a value, nothing is mapped.
		wantNil(t, "delete", w.DeleteAttribute(ctx, "", badge.ID))
		w.attribute(t, Attribute{Name: "badge", Type: TypeString})
		if got, err := w.AttributeClaims(ctx, u.ID, "till", []string{"work"}, InUserinfo); len(got) > 0 || err != nil {
			t.Errorf("made anew: %v, %v", got, err)
		}
		if got := w.values(t, u.ID); len(got) != 1 {
			t.Errorf("made anew: values %v", got)
		}
		var actors []string
		wantNil(t, "audit", w.db.Query(ctx, func(row db.Scanner) error {
			var action string
			err := row.Scan(&action)
			actors = append(actors, action)
			return err
		}, `SELECT DISTINCT action FROM audit WHERE action LIKE 'attribute.%' ORDER BY action`))
		if diff := cmp.Diff([]string{"attribute.create", "attribute.delete", "attribute.map", "attribute.set"}, actors); diff != "" {
			t.Error(diff)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
