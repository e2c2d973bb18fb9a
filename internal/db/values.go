package db

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"
)

// timeLayout has a fixed width, so that SQLite's text order is the order in time.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Time reads and writes a time.Time in UTC with microseconds on both engines; the zero time is NULL.
type Time struct{ time.Time }

// At wraps a time for a statement's argument.
func At(t time.Time) Time { return Time{t} }

// Value implements driver.Valuer.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UTC().Format(timeLayout), nil
}

// Scan implements sql.Scanner.
func (t *Time) Scan(v any) (err error) {
	switch v := v.(type) {
	case time.Time:
		t.Time = v.UTC()
	case string:
		t.Time, err = time.Parse(timeLayout, v)
	case nil:
		t.Time = time.Time{}
	default:
		err = fmt.Errorf("time from %T", v)
	}
	return err
}

// jsonText keeps a Go value as JSON text.
type jsonText[T any] struct{ v *T }

// JSON wraps a pointer for a statement's argument or a Scan destination; NULL leaves the value untouched.
func JSON[T any](v *T) jsonText[T] { return jsonText[T]{v} } //nolint:revive // callers never name the type

// Value implements driver.Valuer.
func (j jsonText[T]) Value() (driver.Value, error) {
	b, err := json.Marshal(j.v)
	return string(b), err
}

// Scan implements sql.Scanner.
func (j jsonText[T]) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), j.v)
	case []byte:
		return json.Unmarshal(v, j.v)
	case nil:
		return nil
	}
	return fmt.Errorf("JSON from %T", v)
}
