-- Services that went on to another API in somebody's name (RFC 8693): who acts for whom, so that the person can see it.
CREATE TABLE delegations (
    id         TEXT PRIMARY KEY,        -- hash of grant, client, chain and resources: one row for each way, however often it is gone
    grant_id   TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    definition TEXT NOT NULL,           -- JSON: client, actors, through whom, resources, scopes
    created_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL     -- of the last token
);
CREATE INDEX delegations_grant ON delegations (grant_id);
CREATE INDEX delegations_user ON delegations (user_id, used_at);
CREATE INDEX delegations_used ON delegations (used_at);

-- How the access tokens of an API look, and whether they are tied to a TLS certificate.
ALTER TABLE apis ADD COLUMN format TEXT NOT NULL DEFAULT 'jwt';
ALTER TABLE apis ADD COLUMN certificate BOOLEAN NOT NULL DEFAULT FALSE;
