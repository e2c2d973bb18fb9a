-- One row per row of audit, in the order in which they were taken in. It stays when retention removes the other.
CREATE TABLE audit_leaves (
    n        BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    digest   BYTEA NOT NULL,                      -- of the row of audit, SHA-256
    UNIQUE (at, event_id)
);

-- The Merkle tree over audit_leaves (RFC 6962), numbered as golang.org/x/mod/sumdb/tlog stores it.
CREATE TABLE audit_tree (
    n    BIGINT PRIMARY KEY,
    hash BYTEA NOT NULL
);

-- What the server signed: "so many leaves, and this is the hash of their tree".
CREATE TABLE audit_checkpoints (
    size BIGINT NOT NULL,
    at   TIMESTAMPTZ NOT NULL,
    note TEXT NOT NULL,                           -- signed note (golang.org/x/mod/sumdb/note)
    PRIMARY KEY (size, at)
);

-- One row, which a replica changes to take its turn at the tree.
CREATE TABLE audit_head (
    turn       BIGINT NOT NULL,
    size       BIGINT NOT NULL,                   -- leaves in the tree
    kept_since TIMESTAMPTZ NOT NULL               -- retention may delete rows older than this
);
INSERT INTO audit_head (turn, size, kept_since) VALUES (0, 0, '1970-01-01T00:00:00.000000Z');
