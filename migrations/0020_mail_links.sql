-- What a link with the purpose "not-me" undoes beside throwing everybody out: a factor, by its kind and id; empty: nothing.
ALTER TABLE mail_links ADD COLUMN about TEXT NOT NULL DEFAULT '';
