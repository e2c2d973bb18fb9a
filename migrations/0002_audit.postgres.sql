-- The same table in partitions by month, which retention drops whole. The server makes them ahead; what finds none is
-- kept in audit_default until it does.
ALTER TABLE audit RENAME TO audit_before;
ALTER TABLE audit_before RENAME CONSTRAINT audit_pkey TO audit_before_pkey;
DROP INDEX audit_user;

CREATE TABLE audit (
    id         TEXT NOT NULL,
    at         TIMESTAMPTZ NOT NULL,
    action     TEXT NOT NULL,
    outcome    TEXT NOT NULL,                     -- success | failure
    actor      TEXT NOT NULL,                     -- user id, client id, "cli" or ''
    user_id    TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail     TEXT NOT NULL,                     -- JSON, no personal data
    place      BYTEA NOT NULL DEFAULT ''::bytea,  -- address and browser, sealed under the key of the person the row is about
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
CREATE INDEX audit_user ON audit (user_id, at, id);

INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail)
SELECT id, at, action, outcome, actor, user_id, client_id, request_id, detail FROM audit_before;
DROP TABLE audit_before;

-- Rows are written once. Whoever may write SQL can drop these triggers: they stop mistakes, audit_tree shows malice.
CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN
        IF OLD.at < (SELECT kept_since FROM audit_head) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'audit rows are deleted by retention only';
    END IF;
    RAISE EXCEPTION 'audit rows are never changed';
END $$;
CREATE TRIGGER audit_keep BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_keep();
CREATE TRIGGER audit_keep_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_keep();
