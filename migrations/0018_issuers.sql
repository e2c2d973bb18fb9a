-- Issuers whose signed statements count here: assertions at the token endpoint (RFC 7523), software statements (RFC 7591 §2.3).
CREATE TABLE issuers (
    issuer     TEXT PRIMARY KEY,
    definition TEXT NOT NULL,                     -- JSON
    created_at TIMESTAMPTZ NOT NULL
);

-- Which client gets tokens for assertions of an issuer, and for which. It goes with the client, so that a namesake does not inherit it.
CREATE TABLE issuer_permits (
    id         TEXT PRIMARY KEY,
    issuer     TEXT NOT NULL REFERENCES issuers (issuer) ON DELETE CASCADE,
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    definition TEXT NOT NULL,                     -- JSON
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX issuer_permits_issuer ON issuer_permits (issuer, client_id, id);
CREATE INDEX issuer_permits_client ON issuer_permits (client_id);

-- A registration access token is changed with each update of its client; the one before works until the new one is used (RFC 7592 §3).
ALTER TABLE clients ADD COLUMN access_hash_before BYTEA;

-- What clients may be that are registered with an initial access token. JSON.
ALTER TABLE registration_tokens ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
