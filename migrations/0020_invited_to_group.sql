-- An invitation to make an account that an admin of a group has brought about by inviting to the group; it goes with that one.
ALTER TABLE invitations ADD COLUMN group_invitation TEXT REFERENCES group_invitations (id) ON DELETE CASCADE ON UPDATE CASCADE;
CREATE INDEX invitations_group ON invitations (group_invitation);
