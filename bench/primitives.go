package main

import (
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
	"time"
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

// bare is the measure of all others: net/http answering a small JSON document, in a process of its own as the server is.
// It prints the address it listens on.
func bare() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "service": "bare", "status": 200})
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, mux) // loopback; it ends with the benchmark
}
