package db_test

import (
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// BenchmarkStatement measures one typical read (a join by a unique key) and one typical write on each engine.
func BenchmarkStatement(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *db.DB{"sqlite": dbtest.OpenSQLite, "postgres": dbtest.OpenPostgres} {
		d := open(b)
		now := db.At(time.Now())
		for _, err := range []error{
			second(d.Exec(b.Context(), `INSERT INTO users (id, email_index, email, email_verified, password_hash, must_change_password,
				role, status, created_at, updated_at) VALUES ('u1', $1, $1, TRUE, '', FALSE, 'user', 'active', $2, $2)`, []byte("x"), now)),
			second(d.Exec(b.Context(), `INSERT INTO sessions (id, user_id, token_hash, auth_time, amr, device, created_at, last_seen_at, expires_at)
				VALUES ('s1', 'u1', $1, $2, '["pwd"]', $1, $2, $2, $2)`, []byte("token"), now)),
			second(d.Exec(b.Context(), `INSERT INTO changes (name, version) VALUES ('x', 1)`)),
		} {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name+"/read", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var id, user, amr, role, status string
				var at, created, seen, expires db.Time
				if err := d.QueryRow(b.Context(), `SELECT s.id, s.user_id, s.auth_time, s.amr, s.created_at, s.last_seen_at, s.expires_at, u.role, u.status
					FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1`, []byte("token")).
					Scan(&id, &user, &at, &amr, &created, &seen, &expires, &role, &status); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/write", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v int64
				if err := d.QueryRow(b.Context(), `UPDATE changes SET version = version + 1 WHERE name = $1 RETURNING version`, "x").Scan(&v); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/read in parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					var role string
					if err := d.QueryRow(b.Context(), `SELECT u.role FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1`,
						[]byte("token")).Scan(&role); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func second(_ int64, err error) error { return err }
