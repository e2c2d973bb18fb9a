-- Where people may sign in instead of here: other OpenID Connect servers, and GitHub.
CREATE TABLE providers (
    id         TEXT PRIMARY KEY,                  -- stands in the redirect URI
    metadata   TEXT NOT NULL,                     -- JSON
    secret     BYTEA NOT NULL,                    -- of our client there, sealed under the master key; empty: none
    disabled   BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- Mail domains whose people are sent to a provider. The primary key gives each domain to one.
CREATE TABLE provider_domains (
    domain      TEXT PRIMARY KEY,
    provider_id TEXT NOT NULL REFERENCES providers (id) ON DELETE CASCADE
);
CREATE INDEX provider_domains_provider ON provider_domains (provider_id);

-- Who a person is elsewhere. The primary key lets nobody else be the same there.
CREATE TABLE linked_accounts (
    provider_id   TEXT NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
    subject_index BYTEA NOT NULL,                 -- keyed hash of issuer and subject
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sealed        BYTEA NOT NULL,                 -- issuer, subject and name there, sealed under the person's key
    created_at    TIMESTAMPTZ NOT NULL,
    used_at       TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (provider_id, subject_index)
);
CREATE INDEX linked_accounts_user ON linked_accounts (user_id);

-- Sessions that came by a provider and may end with it.
CREATE TABLE session_providers (
    session_id  TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL
);
CREATE INDEX session_providers_provider ON session_providers (provider_id);
