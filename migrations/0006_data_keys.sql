-- Each person's own key in a table of its own, so that backups can be made without the keys: a backup that is kept for long then
-- says nothing about who was erased since (docs/operating.md).
CREATE TABLE data_keys (
    user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    wrapped BYTEA NOT NULL                        -- sealed under the master key
);
INSERT INTO data_keys (user_id, wrapped) SELECT id, data_key FROM users;
-- Written over first: Postgres keeps what stands in a column that is dropped.
UPDATE users SET data_key = '';
ALTER TABLE users DROP COLUMN data_key;
