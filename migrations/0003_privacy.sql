-- Accounts that are on their way out. users.status is 'closing' until due_at, unless the person comes back.
CREATE TABLE erasures (
    user_id  TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    asked_at TIMESTAMPTZ NOT NULL,
    due_at   TIMESTAMPTZ NOT NULL,
    told     BOOLEAN NOT NULL                     -- the mail about it has been sent
);
CREATE INDEX erasures_due ON erasures (due_at);
CREATE INDEX erasures_untold ON erasures (asked_at) WHERE NOT told;

-- Files with everything held about a person, one for each person who asked.
CREATE TABLE exports (
    user_id    TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    id         TEXT NOT NULL UNIQUE,
    parts_done BIGINT NOT NULL,
    parts      BIGINT NOT NULL,                   -- 0: nobody has begun
    sealed     BYTEA,                             -- the zip file, sealed under users.data_key; NULL until it is complete
    asked_at   TIMESTAMPTZ NOT NULL,
    claimed_at TIMESTAMPTZ,                       -- the last sign of life of the process that makes the file
    ready_at   TIMESTAMPTZ,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX exports_waiting ON exports (asked_at) WHERE ready_at IS NULL;
CREATE INDEX exports_expiry ON exports (expires_at);

-- Who else is an administrator is asked before one goes.
CREATE INDEX users_admins ON users (id) WHERE role = 'admin';
