-- What a share allows. Those that were given before let their users read and write.
ALTER TABLE shares ADD COLUMN access TEXT NOT NULL DEFAULT 'member' CHECK (access IN ('reader', 'member'));
