package keys

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// snapshot is one reading of the keys, with all that can be worked out beforehand. It never changes.
type snapshot struct {
	list  []*key
	byKID map[string]*key
	byAlg map[Alg][]*key // by generation

	encryption []*encryptionKey // by algorithm and generation

	body  []byte
	etag  string
	until time.Time // when a key of body is gone; zero: never
}

// key is a row with its material.
type key struct {
	Key // State is left empty; it follows from the clock
	*material
}

// material is the cryptographic part of a key.
type material struct {
	jwk     jose.JSONWebKey                    // public
	sign    func(input []byte) ([]byte, error) // nil once the private half is erased
	headers map[string]string                  // typ → encoded header and "."
}

func newSnapshot(list []*key, encryption []*encryptionKey, now time.Time) (*snapshot, error) {
	s := &snapshot{list: list, encryption: encryption, byKID: map[string]*key{}, byAlg: map[Alg][]*key{}}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range list {
		s.byKID[k.KID] = k
		s.byAlg[k.Alg] = append(s.byAlg[k.Alg], k)
		if k.state(now) == Gone {
			continue
		}
		set.Keys = append(set.Keys, k.jwk)
		if !k.GoneAt.IsZero() && (s.until.IsZero() || k.GoneAt.Before(s.until)) {
			s.until = k.GoneAt
		}
	}
	for _, k := range encryption {
		if k.state(now) == Active {
			set.Keys = append(set.Keys, k.jwk)
		}
	}
	var err error
	if s.body, err = json.Marshal(set); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(s.body)
	s.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return s, nil
}

// rebuild leaves the keys that are gone by now out of the key set.
func (r *Ring) rebuild() (*snapshot, error) {
	r.load.Lock()
	defer r.load.Unlock()
	s, err := newSnapshot(r.keys.Load().list, r.keys.Load().encryption, r.c.Now())
	if err == nil {
		r.keys.Store(s)
	}
	return s, err
}

// fresh reports whether body is still what should be published.
func (s *snapshot) fresh(now time.Time) bool { return s.until.IsZero() || now.Before(s.until) }

// newest is the key of the highest generation, or nil.
func (s *snapshot) newest(alg Alg) *key {
	if keys := s.byAlg[alg]; len(keys) > 0 {
		return keys[len(keys)-1]
	}
	return nil
}

// active is the key that signs now, or nil.
func (s *snapshot) active(alg Alg, now time.Time) *key {
	keys := s.byAlg[alg]
	for i := len(keys) - 1; i >= 0; i-- {
		if keys[i].state(now) == Active {
			return keys[i]
		}
	}
	return nil
}

func (k *key) state(now time.Time) string {
	switch {
	case k.sign == nil, !k.GoneAt.IsZero() && !now.Before(k.GoneAt):
		return Gone
	case !k.RetiredAt.IsZero() && !now.Before(k.RetiredAt):
		return Retired
	case now.Before(k.ActiveAt):
		return Next
	}
	return Active
}

func (k *encryptionKey) at(now time.Time) Key {
	out := k.Key
	out.State = k.state(now)
	return out
}

func (k *key) at(now time.Time) Key {
	out := k.Key
	out.State = k.state(now)
	return out
}
