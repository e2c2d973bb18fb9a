-- Address and browser, sealed under the key of the person the row is about; empty when there were none.
ALTER TABLE audit ADD COLUMN place BYTEA NOT NULL DEFAULT x'';

DROP INDEX audit_user;
CREATE INDEX audit_user ON audit (user_id, at, id);
CREATE INDEX audit_time ON audit (at, id);

-- Rows are written once. Whoever may write SQL can drop these triggers: they stop mistakes, audit_tree shows malice.
CREATE TRIGGER audit_keep BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;
CREATE TRIGGER audit_keep_row BEFORE DELETE ON audit
WHEN OLD.at >= (SELECT kept_since FROM audit_head)
BEGIN
    SELECT RAISE(ABORT, 'audit rows are deleted by retention only');
END;
