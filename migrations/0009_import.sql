-- Who came from another system, and under which id there. An import that is run again knows by it whom it has brought already.
CREATE TABLE imported (
    external_index BYTEA PRIMARY KEY,             -- keyed hash of source and id
    user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    source         TEXT NOT NULL,
    external_id    BYTEA NOT NULL,                -- sealed under the person's key
    imported_at    TIMESTAMPTZ NOT NULL
);
CREATE INDEX imported_user ON imported (user_id);
