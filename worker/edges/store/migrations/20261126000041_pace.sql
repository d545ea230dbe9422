-- migrate:up

-- How a living process does: its slowest hundredth of interactive answers, and the pace of its bulk work (NULL: it has no
-- such lane). Nothing rests on it but speed.
ALTER TABLE keyriver.workers ADD COLUMN p99_ms int, ADD COLUMN pace double precision;

-- migrate:down

ALTER TABLE keyriver.workers DROP COLUMN p99_ms, DROP COLUMN pace;
