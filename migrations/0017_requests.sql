-- Which requests of apps without a browser (CIBA) a person was shown. What was asked for lies in the cache, under the same hash; here
-- stand ids only, to list what waits and to bound it.
CREATE TABLE login_requests (
    id          TEXT PRIMARY KEY,                 -- SHA-256 of the auth_req_id
    user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id   TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    asked_at    TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    answered_at TIMESTAMPTZ,
    denied      BOOLEAN NOT NULL
);
CREATE INDEX login_requests_user ON login_requests (user_id, asked_at);
CREATE INDEX login_requests_client ON login_requests (client_id);
CREATE INDEX login_requests_age ON login_requests (asked_at);

-- Apps by which a person does not want to be asked any more.
CREATE TABLE muted_apps (
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    muted_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX muted_apps_client ON muted_apps (client_id);
