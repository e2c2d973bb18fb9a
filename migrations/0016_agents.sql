-- What a person may lay on an app that acts for them: a pause, and a number of tokens that it may still fetch (NULL: no bound).
ALTER TABLE grants ADD COLUMN paused_at TIMESTAMPTZ;
ALTER TABLE grants ADD COLUMN uses_left BIGINT;
