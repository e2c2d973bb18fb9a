-- Passkeys (WebAuthn credentials). Whose row is found by a credential is known from here alone.
CREATE TABLE passkeys (
    id              TEXT PRIMARY KEY,
    user_id         TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_hash BYTEA NOT NULL UNIQUE,        -- SHA-256 of the credential id
    sealed          BYTEA NOT NULL,               -- JSON: name, credential id, public key; sealed under the person's key
    sign_count      BIGINT NOT NULL,              -- the highest signature counter that was seen
    created_at      TIMESTAMPTZ NOT NULL,
    used_at         TIMESTAMPTZ,
    copied_at       TIMESTAMPTZ                   -- its counter went backwards: it signs nobody in any more
);
CREATE INDEX passkeys_user ON passkeys (user_id);
