-- Clients that no operator has registered: those whose id is the URL of their metadata ("document"), and those that registered
-- themselves (RFC 7591, "registration"). They go when nobody uses them.
ALTER TABLE clients ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN expires_at TIMESTAMPTZ;
ALTER TABLE clients ADD COLUMN access_hash BYTEA;  -- SHA-256 of the registration access token (RFC 7592)
CREATE INDEX clients_origin ON clients (origin, id);
CREATE INDEX clients_expiry ON clients (expires_at);

-- What an operator thinks of the hosts at which clients publish their metadata.
CREATE TABLE client_hosts (
    host       TEXT PRIMARY KEY,
    trust      TEXT NOT NULL,                     -- approved | blocked
    scopes     TEXT NOT NULL,                     -- JSON list: what its clients may ask for beside what all may
    updated_at TIMESTAMPTZ NOT NULL
);

-- Initial access tokens: whoever has one may register clients (RFC 7591 §1.2).
CREATE TABLE registration_tokens (
    id         TEXT PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE,             -- SHA-256
    note       TEXT NOT NULL,
    uses_left  BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX registration_tokens_expiry ON registration_tokens (expires_at);
