-- How a person wants to see these pages. Whoever has no row gets what the profile says of language and time zone.
CREATE TABLE preferences (
    user_id    TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed     BYTEA NOT NULL,                    -- JSON sealed under the person's key
    updated_at TIMESTAMPTZ NOT NULL
);
