package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// signatures says how many signatures one core makes in a second: no server can issue more tokens than that.
func signatures(length time.Duration) (map[string]float64, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, 600) // about as long as an ID token
	out := map[string]float64{}
	for name, sign := range map[string]func() error{
		"ES256": func() error {
			sum := sha256.Sum256(payload)
			_, err := ecdsa.SignASN1(rand.Reader, ec, sum[:])
			return err
		},
		"RS256": func() error {
			sum := sha256.Sum256(payload)
			_, err := rsa.SignPKCS1v15(nil, rs, crypto.SHA256, sum[:])
			return err
		},
		"EdDSA": func() error {
			_, err := ed.Sign(nil, payload, crypto.Hash(0))
			return err
		},
	} {
		count, start := 0, time.Now()
		for time.Since(start) < length {
			if err := sign(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			count++
		}
		out[name] = float64(count) / time.Since(start).Seconds()
	}
	return out, nil
}

// bare serves what others are compared with: the smallest answer net/http can give, and the same after one row was read
// from a database or written to it, found by its primary key. No server that asks this database can be faster than the
// latter two.
func bare(ctx context.Context, dsn string) error {
	store, err := db.Open(ctx, dsn)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		`DROP TABLE IF EXISTS bench_floor`,
		`CREATE TABLE bench_floor (id BIGINT PRIMARY KEY, body TEXT NOT NULL, hash BYTEA NOT NULL, generation BIGINT NOT NULL)`,
	} {
		if _, err := store.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for id := range floorRows {
		if _, err := store.Exec(ctx, `INSERT INTO bench_floor VALUES ($1, $2, $3, 0)`, id, strings.Repeat("x", 300), make([]byte, 32)); err != nil {
			return err
		}
	}
	var turn atomic.Int64
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "service": "bare", "status": 200})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /read", func(w http.ResponseWriter, r *http.Request) {
		var body string
		answer(w, store.QueryRow(r.Context(), `SELECT body FROM bench_floor WHERE id = $1`, turn.Add(1)%floorRows).Scan(&body))
	})
	mux.HandleFunc("GET /write", func(w http.ResponseWriter, r *http.Request) {
		_, err := store.Exec(r.Context(), `UPDATE bench_floor SET generation = generation + 1 WHERE id = $1`, turn.Add(1)%floorRows)
		answer(w, err)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, mux) // loopback; it ends with the benchmark
}

const floorRows = 64
