-- APIs as resources that access tokens are asked for by name (RFC 8707).
ALTER TABLE apis ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';        -- JSON: name and description of each scope it knows
ALTER TABLE apis ADD COLUMN token_seconds BIGINT NOT NULL DEFAULT 0;  -- life of its access tokens; 0: the client's or the server's
ALTER TABLE apis ADD COLUMN self_registered BOOLEAN NOT NULL DEFAULT FALSE; -- open to clients that registered themselves
ALTER TABLE apis ADD COLUMN dpop BOOLEAN NOT NULL DEFAULT FALSE;      -- its tokens are tied to a key
ALTER TABLE apis ADD COLUMN client_id TEXT NOT NULL DEFAULT '';       -- the client as which it introspects tokens; not a reference: it may come later
CREATE INDEX apis_self_registered ON apis (self_registered);
CREATE INDEX apis_client ON apis (client_id);
