package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func TestChangesAreCounted(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		want := func(name string, want int64) {
			t.Helper()
			if got, err := d.Version(t.Context(), name); got != want || err != nil {
				t.Errorf("%s was changed %d times, %v; want %d", name, got, err, want)
			}
		}
		change := func(name string, end error) error {
			return d.Tx(t.Context(), func(ctx context.Context) error { return errors.Join(d.Changed(ctx, name), end) })
		}
		want("a", 0)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := change("a", nil); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		undone := errors.New("undone")
		if err := change("b", undone); !errors.Is(err, undone) {
			t.Errorf("got %v, want %v", err, undone)
		}
		want("a", 10)
		want("b", 0)
	})
}
