-- The provider did not say when it had asked the person: the session's time of sign-in is that of the return, and proves nothing to
-- apps that demand a recent one.
ALTER TABLE session_providers ADD COLUMN undated BOOLEAN NOT NULL DEFAULT FALSE;
