// Package softkey is an authenticator in software (WebAuthn L3 §6) for tests of the server: it makes passkeys and answers challenges as
// a browser and a security key would together, and lies where a test tells it to.
package softkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Key is an authenticator that holds one passkey, in a browser that shows a page of Origin.
type Key struct {
	Origin     string
	RPID       string
	Unverified bool   // touched, but without PIN or fingerprint
	Synced     bool   // backup eligible, and backed up
	Count      uint32 // signature counter; 0 stays 0
	Type       string // of the client data in place of the right one

	ID     []byte
	handle []byte
	key    *ecdsa.PrivateKey
}

// New gives an authenticator without a passkey.
func New(origin, rpID string) *Key { return &Key{Origin: origin, RPID: rpID} }

// Copy is what a thief has who read the key out.
func (k *Key) Copy() *Key {
	c := *k
	return &c
}

// creation and request are what the server's options say (WebAuthn L3 §5.1.8, §5.1.9).
type creation struct {
	Challenge string `json:"challenge"`
	User      struct {
		ID string `json:"id"`
	} `json:"user"`
}

type request struct {
	Challenge string `json:"challenge"`
}

// Create makes a passkey and answers the options of a registration.
func (k *Key) Create(options []byte) ([]byte, error) {
	var o creation
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	var err error
	if k.handle, err = base64.RawURLEncoding.DecodeString(o.User.ID); err != nil {
		return nil, fmt.Errorf("user handle: %w", err)
	}
	if k.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	k.ID = make([]byte, 32)
	_, _ = rand.Read(k.ID) // never fails (crypto/rand)
	public, err := k.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	attested := make([]byte, 16)                                          // AAGUID
	attested = binary.BigEndian.AppendUint16(attested, uint16(len(k.ID))) //nolint:gosec // 32
	attested = append(attested, k.ID...)
	// A COSE key (RFC 9053 §7.1.1): {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
	attested = append(attested, 0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 32)
	attested = append(attested, public[1:33]...)
	attested = append(attested, 0x22, 0x58, 32)
	attested = append(attested, public[33:]...)
	data := append(k.authenticatorData(0x40), attested...)
	// {"fmt": "none", "attStmt": {}, "authData": data}
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(append(object, 0x67), "attStmt"...), 0xa0)
	object = append(append(object, 0x68), "authData"...)
	object = binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(data))) //nolint:gosec // a few hundred
	object = append(object, data...)
	return k.answer(map[string]any{
		"clientDataJSON": encode(k.clientData("webauthn.create", o.Challenge)), "attestationObject": encode(object), "transports": []string{"internal"},
	})
}

// Get answers the options of an assertion with the passkey.
func (k *Key) Get(options []byte) ([]byte, error) {
	var o request
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	if k.Count > 0 {
		k.Count++
	}
	client, data := k.clientData("webauthn.get", o.Challenge), k.authenticatorData(0)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, k.key, digest[:])
	if err != nil {
		return nil, err
	}
	return k.answer(map[string]any{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(k.handle),
	})
}

func (k *Key) answer(response map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{
		"id": encode(k.ID), "rawId": encode(k.ID), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{},
	})
}

func (k *Key) clientData(kind, challenge string) []byte {
	if k.Type != "" {
		kind = k.Type
	}
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": k.Origin, "crossOrigin": false})
	if err != nil {
		panic(err) // three strings
	}
	return b
}

// authenticatorData is WebAuthn L3 §6.1 up to the counter.
func (k *Key) authenticatorData(flags byte) []byte {
	flags |= 0x01
	if !k.Unverified {
		flags |= 0x04
	}
	if k.Synced {
		flags |= 0x08 | 0x10
	}
	hash := sha256.Sum256([]byte(k.RPID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), k.Count)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
