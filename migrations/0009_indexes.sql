-- What the hourly clean-up looks for.
CREATE INDEX sessions_seen ON sessions (last_seen_at);
CREATE INDEX grants_revoked ON grants (revoked_at) WHERE revoked_at IS NOT NULL;
