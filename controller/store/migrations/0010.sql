-- The network that an amphora lives on, if that is not its host's.
ALTER TABLE amphora ADD COLUMN network TEXT;
