-- Server secrets (blind-index key, token keys), sealed under the master key.
CREATE TABLE secrets (
    name       TEXT PRIMARY KEY,
    sealed     BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- One row per kind of thing that replicas keep in memory; a higher version says "read it again".
CREATE TABLE changes (
    name    TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);

-- The primary key lets exactly one replica create a generation.
CREATE TABLE signing_keys (
    alg        TEXT NOT NULL,
    generation BIGINT NOT NULL,
    kid        TEXT NOT NULL UNIQUE,
    public     TEXT NOT NULL,               -- JWK
    private    BYTEA,                       -- sealed PKCS #8; NULL once the key is gone
    created_at TIMESTAMPTZ NOT NULL,
    active_at  TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ,
    gone_at    TIMESTAMPTZ,
    PRIMARY KEY (alg, generation)
);

CREATE TABLE users (
    id                   TEXT PRIMARY KEY,
    email_index          BYTEA NOT NULL UNIQUE,   -- keyed hash of the normalised address
    data_key             BYTEA NOT NULL,          -- the person's own key, sealed under the master key
    email                BYTEA NOT NULL,          -- sealed under data_key
    email_verified       BOOLEAN NOT NULL,
    password_hash        TEXT NOT NULL,           -- PHC string, '' for none
    password_changed_at  TIMESTAMPTZ,
    must_change_password BOOLEAN NOT NULL,
    role                 TEXT NOT NULL,           -- user | admin
    status               TEXT NOT NULL,           -- active | disabled
    created_at           TIMESTAMPTZ NOT NULL,
    updated_at           TIMESTAMPTZ NOT NULL
);

CREATE TABLE profiles (
    user_id    TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed     BYTEA NOT NULL,                    -- JSON sealed under users.data_key
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE totp (
    user_id      TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret       BYTEA NOT NULL,                  -- sealed under users.data_key
    last_step    BIGINT NOT NULL,                 -- the newest time step that was used: each code works once
    confirmed_at TIMESTAMPTZ,
    created_at   TIMESTAMPTZ NOT NULL
);

CREATE TABLE recovery_codes (
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash BYTEA NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,                -- the sid claim
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash   BYTEA NOT NULL UNIQUE,           -- of the cookie
    auth_time    TIMESTAMPTZ NOT NULL,
    amr          TEXT NOT NULL,                   -- JSON list, RFC 8176
    device       BYTEA NOT NULL,                  -- browser and address, sealed under users.data_key
    created_at   TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Links sent by mail: single use, bound to a person and a purpose.
CREATE TABLE mail_links (
    token_hash BYTEA PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    TEXT NOT NULL,                     -- verify | reset | change
    email      BYTEA NOT NULL,                    -- the address that is proven, sealed under users.data_key
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX mail_links_user ON mail_links (user_id, purpose);
CREATE INDEX mail_links_expiry ON mail_links (expires_at);

CREATE TABLE clients (
    id         TEXT PRIMARY KEY,
    metadata   TEXT NOT NULL,                     -- JSON, RFC 7591 names
    secrets    TEXT NOT NULL,                     -- JSON list of SHA-256 hashes, newest first
    disabled   BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE consents (
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id    TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    scopes       TEXT NOT NULL,                   -- JSON list
    text_version TEXT NOT NULL,                   -- which wording the person saw
    granted_at   TIMESTAMPTZ NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX consents_client ON consents (client_id);

-- One row per authorization; refreshing rotates the row in place.
CREATE TABLE grants (
    id            TEXT PRIMARY KEY,               -- the gid claim
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id     TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    session_id    TEXT NOT NULL,
    scopes        TEXT NOT NULL,                  -- JSON list
    session       TEXT NOT NULL,                  -- JSON: what later tokens of this grant need
    refresh_hash  BYTEA NOT NULL,
    previous_hash BYTEA NOT NULL,
    generation    BIGINT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    used_at       TIMESTAMPTZ NOT NULL,
    expires_at    TIMESTAMPTZ NOT NULL,           -- absolute: no refresh extends it
    revoked_at    TIMESTAMPTZ
);
CREATE INDEX grants_user ON grants (user_id, client_id);
CREATE INDEX grants_session ON grants (session_id);
CREATE INDEX grants_client ON grants (client_id);
CREATE INDEX grants_expiry ON grants (expires_at);

-- Tokens issued before "before" under this mark (jti, grant, session, user, user and client) are dead. Kept here so that
-- the marks survive the loss of the cache; rows die with the last token they could concern.
CREATE TABLE revocations (
    mark       TEXT PRIMARY KEY,
    before     BIGINT NOT NULL,                   -- Unix milliseconds
    made_at    TIMESTAMPTZ NOT NULL,              -- every process reads what is younger than its last reading
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX revocations_made ON revocations (made_at);
CREATE INDEX revocations_expiry ON revocations (expires_at);

CREATE TABLE audit (
    id         TEXT PRIMARY KEY,
    at         TIMESTAMPTZ NOT NULL,
    action     TEXT NOT NULL,
    outcome    TEXT NOT NULL,                     -- success | failure
    actor      TEXT NOT NULL,                     -- user id, client id, "cli" or ''
    user_id    TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail     TEXT NOT NULL                      -- JSON, no personal data
);
CREATE INDEX audit_user ON audit (user_id, at);
