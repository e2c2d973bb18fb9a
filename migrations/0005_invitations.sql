-- Addresses whose holders may make an account. Links are mailed by the server and kept as hashes; what was accepted keeps
-- neither address nor rights, only the hash by which a second use is told apart from a stranger's guess.
CREATE TABLE invitations (
    id          TEXT PRIMARY KEY,
    email_index BYTEA UNIQUE,                     -- keyed hash of the normalised address; NULL once accepted
    sealed      BYTEA,                            -- address and language, sealed under the master key; NULL once accepted
    role        TEXT NOT NULL,
    token_hash  BYTEA UNIQUE,                     -- of the link in the newest mail; NULL until that is sent
    told        BOOLEAN NOT NULL,                 -- the mail has been sent
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    accepted_at TIMESTAMPTZ
);
CREATE INDEX invitations_untold ON invitations (created_at) WHERE NOT told;
CREATE INDEX invitations_expiry ON invitations (expires_at);
