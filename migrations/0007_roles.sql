-- Groups of persons, which may stand in other groups. Everything refers to ids, which are never given twice: a name that is
-- used again brings no right back.
CREATE TABLE groups (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL UNIQUE,             -- the name without regard to case
    description TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
);

-- Whoever is in the child is in the parent too.
CREATE TABLE group_nesting (
    parent_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    child_id  TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    PRIMARY KEY (parent_id, child_id)
);
CREATE INDEX group_nesting_child ON group_nesting (child_id);

CREATE TABLE group_members (
    group_id  TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    admin     BOOLEAN NOT NULL,                   -- may invite others and see them out
    joined_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);

-- An admin of a group asks whoever proves an address to join it. Rows live for two weeks.
CREATE TABLE group_invitations (
    id          TEXT PRIMARY KEY,
    group_id    TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, -- the admin who asks
    email_index BYTEA NOT NULL,                   -- keyed hash of the address, as in users
    email       BYTEA NOT NULL,                   -- sealed under the admin's own key
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    UNIQUE (group_id, email_index)
);
CREATE INDEX group_invitations_address ON group_invitations (email_index);
CREATE INDEX group_invitations_user ON group_invitations (user_id);
CREATE INDEX group_invitations_expiry ON group_invitations (expires_at);

-- What is protected: an API, by the identifier that access tokens carry as their audience.
CREATE TABLE apis (
    id         TEXT PRIMARY KEY,
    identifier TEXT NOT NULL UNIQUE,              -- absolute URI (RFC 8707) or a client id
    name       TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE api_permissions (
    id          TEXT PRIMARY KEY,
    api_id      TEXT NOT NULL REFERENCES apis (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    UNIQUE (api_id, name)
);

CREATE TABLE roles (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    guarded     BOOLEAN NOT NULL,                 -- no admin of a group hands it on
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
);
CREATE TABLE role_permissions (
    role_id       TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_id TEXT NOT NULL REFERENCES api_permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX role_permissions_permission ON role_permissions (permission_id);
CREATE TABLE user_roles (
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role_id  TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    given_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, role_id)
);
CREATE INDEX user_roles_role ON user_roles (role_id);
CREATE TABLE group_roles (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    role_id  TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    given_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_id, role_id)
);
CREATE INDEX group_roles_role ON group_roles (role_id);

-- What is known of persons beside the standard profile.
CREATE TABLE attributes (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    schema     TEXT NOT NULL,                     -- JSON: type, pattern, who may see and edit it, the claims it feeds
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE user_attributes (
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    attribute_id TEXT NOT NULL REFERENCES attributes (id) ON DELETE CASCADE,
    sealed       BYTEA NOT NULL,                  -- JSON, sealed under the person's own key
    updated_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, attribute_id)
);
CREATE INDEX user_attributes_attribute ON user_attributes (attribute_id);
