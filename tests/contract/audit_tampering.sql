-- What somebody does to a log of 900 records with checkpoints of 300, 600 and 900; `:log` is its tenant.
-- Each case has the flaws that are found: fault, first and last record.

-- case: the body of a record
-- found: altered 450 450
UPDATE keyriver.leaves AS l SET body = '{}'
FROM keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;

-- case: the tenant of a record
-- found: altered 450 450
UPDATE keyriver.leaves AS l SET tenant = 'other'
FROM keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;

-- case: the time of a record
-- found: altered 450 450
UPDATE keyriver.leaves AS l SET at = l.at + interval '1 microsecond'
FROM keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;

-- case: the id of a record
-- found: altered 450 450
UPDATE keyriver.leaves AS l SET id = gen_random_uuid()
FROM keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;

-- case: the id in the log
-- found: altered 450 450
UPDATE keyriver.log_entries SET leaf = gen_random_uuid() WHERE tenant = :log AND index = 450;

-- case: a hash
-- found: altered 450 450, index 256 511, rewritten 300 599
UPDATE keyriver.log_entries SET hash = sha256(hash) WHERE tenant = :log AND index = 450;

-- case: the tenant of a place in the log
-- found: removed 450 450
UPDATE keyriver.log_entries SET tenant = 'other' WHERE tenant = :log AND index = 450;

-- case: two records that change places
-- found: moved 450 450, moved 451 451, index 256 511, rewritten 300 599
UPDATE keyriver.log_entries SET index = -7 WHERE tenant = :log AND index = 450;
UPDATE keyriver.log_entries SET index = 450 WHERE tenant = :log AND index = 451;
UPDATE keyriver.log_entries SET index = 451 WHERE tenant = :log AND index = -7;

-- case: two bodies that change places
-- found: altered 450 451
WITH two AS (
    SELECT e.number, row_number() OVER (ORDER BY e.index) AS n FROM keyriver.log_entries AS e
    WHERE e.tenant = :log AND e.index IN (450, 451)
), bodies AS (
    SELECT t.n, l.body FROM two AS t JOIN keyriver.leaves AS l ON l.number = t.number
)
UPDATE keyriver.leaves AS l SET body = b.body FROM two AS t, bodies AS b WHERE l.number = t.number AND b.n = 3 - t.n;

-- case: the first record, removed
-- found: removed 0 0
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 0;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index = 0;

-- case: records in the middle, removed
-- found: removed 450 452
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index BETWEEN 450 AND 452;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index BETWEEN 450 AND 452;

-- case: a record whose place is left
-- found: removed 450 450
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;

-- case: the last records, removed
-- found: shrunk 890 899, removed 890 899
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index >= 890;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index >= 890;

-- case: the last records removed, and the head put back
-- found: shrunk 890 899, index 890 890
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index >= 890;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index >= 890;
UPDATE keyriver.logs SET size = 890 WHERE tenant = :log;

-- case: a record removed, and the others moved up
-- found: moved 450 898, index 256 767, rewritten 300 599, shrunk 899 899, removed 899 899
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index = 450;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index = 450;
UPDATE keyriver.log_entries SET index = - index WHERE tenant = :log AND index > 450;
UPDATE keyriver.log_entries SET index = - index - 1 WHERE tenant = :log AND index < 0;

-- case: a record put in between
-- found: altered 450 450, moved 451 900, index 256 767, rewritten 300 599
UPDATE keyriver.log_entries SET index = - index WHERE tenant = :log AND index >= 450;
UPDATE keyriver.log_entries SET index = 1 - index WHERE tenant = :log AND index < 0;
INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), :log, '{"forged":true}');
DELETE FROM keyriver.unsequenced;
INSERT INTO keyriver.log_entries (tenant, index, number, leaf, hash)
SELECT l.tenant, 450, l.number, l.id, sha256(l.body) FROM keyriver.leaves AS l
WHERE l.tenant = :log AND l.body = '{"forged":true}';

-- case: a record put at the end, with its right hash
-- found: index 900 900
INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), :log, '{"forged":true}');
DELETE FROM keyriver.unsequenced;
INSERT INTO keyriver.log_entries (tenant, index, number, leaf, hash)
SELECT l.tenant, 900, l.number, l.id, sha256(
    '\x00'::bytea || '\x0000000f'::bytea || convert_to('keyriver-leaf/1', 'UTF8')
    || int4send(length(l.tenant)) || convert_to(l.tenant, 'UTF8')
    || int4send(3) || convert_to('900', 'UTF8')
    || int4send(16) || uuid_send(l.id)
    || int4send(16) || convert_to((extract(epoch FROM l.at) * 1000000)::bigint::text, 'UTF8')
    || int4send(length(l.body)) || l.body
)
FROM keyriver.leaves AS l WHERE l.tenant = :log AND l.body = '{"forged":true}';

-- case: a record appended twice
-- found: moved 900 900, index 900 900
ALTER TABLE keyriver.log_entries DROP CONSTRAINT log_entries_number_key;
INSERT INTO keyriver.log_entries (tenant, index, number, leaf, hash)
SELECT e.tenant, 900, e.number, e.leaf, e.hash FROM keyriver.log_entries AS e
WHERE e.tenant = :log AND e.index = 890;

-- case: two records at one place
-- found: inserted 450 450
ALTER TABLE keyriver.log_entries DROP CONSTRAINT log_entries_pkey;
INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), :log, '{"forged":true}');
DELETE FROM keyriver.unsequenced;
INSERT INTO keyriver.log_entries (tenant, index, number, leaf, hash)
SELECT l.tenant, 450, l.number, l.id, sha256(l.body) FROM keyriver.leaves AS l
WHERE l.tenant = :log AND l.body = '{"forged":true}';

-- case: the root of a checkpoint
-- found: checkpoint 300 599, checkpoint 300 899
UPDATE keyriver.checkpoints SET root = sha256(root) WHERE tenant = :log AND size = 600;

-- case: the size of a checkpoint
-- found: checkpoint 300 600, checkpoint 300 899
UPDATE keyriver.checkpoints SET size = 601 WHERE tenant = :log AND size = 600;

-- case: the time of a checkpoint
-- found: checkpoint 300 599, checkpoint 300 899
UPDATE keyriver.checkpoints SET time_ms = time_ms + 1 WHERE tenant = :log AND size = 600;

-- case: the signature of a checkpoint
-- found: checkpoint 300 599, checkpoint 300 899
UPDATE keyriver.checkpoints SET signature = sha512(signature) WHERE tenant = :log AND size = 600;

-- case: the fleet of a checkpoint
-- found: checkpoint 300 599, checkpoint 300 899
UPDATE keyriver.checkpoints SET fleet = 'dev-other' WHERE tenant = :log AND size = 600;

-- case: the tenant of a checkpoint
-- found: checkpoint 300 899
UPDATE keyriver.checkpoints SET tenant = 'other' WHERE tenant = :log AND size = 600;

-- case: the proof of a checkpoint
-- found: checkpoint 300 599
UPDATE keyriver.checkpoints SET consistency = sha256(consistency) WHERE tenant = :log AND size = 600;

-- case: a checkpoint, removed
-- found: checkpoint 300 899
DELETE FROM keyriver.checkpoints WHERE tenant = :log AND size = 600;

-- case: the frontier of the head
-- found: index 900 900
UPDATE keyriver.logs SET frontier = sha256(frontier) WHERE tenant = :log;

-- case: the head, removed
-- found: index 0 899
DELETE FROM keyriver.logs WHERE tenant = :log;

-- case: a node that proofs are made from
-- found: index 256 511
UPDATE keyriver.log_nodes SET hash = sha256(hash) WHERE tenant = :log AND index = 1;

-- state: rolled back to 600
DELETE FROM keyriver.leaves AS l
USING keyriver.log_entries AS e WHERE e.number = l.number AND e.tenant = :log AND e.index >= 600;
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index >= 600;
DELETE FROM keyriver.log_nodes WHERE tenant = :log AND index > 1;
DELETE FROM keyriver.checkpoints WHERE tenant = :log AND size > 600;

-- state: as if nothing had been appended yet
DELETE FROM keyriver.log_entries WHERE tenant = :log;
DELETE FROM keyriver.log_nodes WHERE tenant = :log;
DELETE FROM keyriver.checkpoints WHERE tenant = :log;
DELETE FROM keyriver.logs WHERE tenant = :log;
INSERT INTO keyriver.unsequenced (number) SELECT l.number FROM keyriver.leaves AS l WHERE l.tenant = :log;

-- state: its first record is another
UPDATE keyriver.leaves SET body = '{}'
WHERE number = (SELECT min(l.number) FROM keyriver.leaves AS l WHERE l.tenant = :log);

-- state: no leaf
DELETE FROM keyriver.leaves WHERE tenant = :log;
DELETE FROM keyriver.unsequenced;

-- state: a record that went through no log
INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), :log, '{}');
DELETE FROM keyriver.unsequenced;

-- state: a record that vanished before its turn
INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), :log, '{"early":true}');
DELETE FROM keyriver.leaves WHERE tenant = :log AND body = '{"early":true}';

-- state: the place is gone too
DELETE FROM keyriver.log_entries WHERE tenant = :log AND index = 450;
