-- Version 2. Released: never change this file, add a migration instead.

-- What a share allows: `reader` or `member`, who may write too. Null is a member: so are the rows that MemOS writes, and those
-- that were there before.
ALTER TABLE user_cube_association ADD COLUMN access VARCHAR;
