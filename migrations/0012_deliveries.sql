-- Which apps a person was let into in which session, of those that want to hear of its end. Not tied to sessions: a session's row
-- goes before the apps are told, and what happens later to the person may still concern the app.
CREATE TABLE session_apps (
    session_id TEXT NOT NULL,
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    entered_at TIMESTAMPTZ NOT NULL,              -- the last time
    ended_at   TIMESTAMPTZ,                       -- the app was told, or is being told
    PRIMARY KEY (session_id, client_id)
);
CREATE INDEX session_apps_user ON session_apps (user_id, client_id);
CREATE INDEX session_apps_client ON session_apps (client_id);
CREATE INDEX session_apps_age ON session_apps (entered_at);

-- Where a receiver of security events wants them (SSF 1.0). One for each client.
CREATE TABLE event_streams (
    id         TEXT PRIMARY KEY,
    client_id  TEXT NOT NULL UNIQUE REFERENCES clients (id) ON DELETE CASCADE,
    settings   TEXT NOT NULL,                     -- JSON: events, way of delivery
    secret     BYTEA,                             -- sealed Authorization header for pushes; NULL for none
    status     TEXT NOT NULL,                     -- enabled | paused | disabled
    reason     TEXT NOT NULL,
    asked_at   TIMESTAMPTZ,                       -- the last time the receiver asked for a verification event
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- What apps must be told, until they have it. A row holds ids only. subject is a person's, without reference: the news that an
-- account is gone must outlive it.
CREATE TABLE deliveries (
    id         TEXT PRIMARY KEY,                  -- jti: repeated deliveries can be recognised
    kind       TEXT NOT NULL,                     -- logout, or the name of a security event
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    stream_id  TEXT REFERENCES event_streams (id) ON DELETE CASCADE,
    subject    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    detail     TEXT NOT NULL,                     -- JSON, no personal data
    status     TEXT NOT NULL,                     -- waiting | held | delivered | failed
    attempts   BIGINT NOT NULL,
    made_at    TIMESTAMPTZ NOT NULL,
    due_at     TIMESTAMPTZ NOT NULL,              -- next attempt; during one, the end of the claim
    done_at    TIMESTAMPTZ,
    note       TEXT NOT NULL                      -- why the last attempt failed
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE status = 'waiting';
CREATE INDEX deliveries_client_due ON deliveries (client_id, due_at) WHERE status = 'waiting';
CREATE INDEX deliveries_client ON deliveries (client_id, id);
CREATE INDEX deliveries_stream ON deliveries (stream_id, id);
CREATE INDEX deliveries_subject ON deliveries (subject, id);
CREATE INDEX deliveries_age ON deliveries (made_at);
