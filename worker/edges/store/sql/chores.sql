-- name: prune_ledger
-- $1 window, $2 at most so many: oldest first, rows that a settle holds are left for the next time.
WITH old AS (
    SELECT l.tenant, l.client, l.source, l.id FROM keyriver.ledger AS l
    WHERE l.at < now() - $1::interval
    ORDER BY l.at LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM keyriver.ledger AS l USING old AS o
WHERE l.tenant = o.tenant AND l.client = o.client AND l.source = o.source AND l.id = o.id;

-- name: prune_outbox
WITH old AS (
    SELECT o.id FROM keyriver.outbox AS o
    WHERE o.acknowledged < now() - $1::interval
    ORDER BY o.acknowledged LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM keyriver.outbox AS o USING old WHERE o.id = old.id;

-- name: fold_census
-- The deltas of each key version become one row. Two folds at once: the second finds the rows gone and sums nothing twice.
WITH gone AS (
    DELETE FROM keyriver.census AS c
    USING (SELECT d.key, d.version FROM keyriver.census AS d GROUP BY d.key, d.version HAVING count(*) > 1) AS many
    WHERE c.key = many.key AND c.version = many.version
    RETURNING c.key, c.version, c.stored, c.issued_outside
)
INSERT INTO keyriver.census (key, version, stored, issued_outside)
SELECT g.key, g.version, sum(g.stored), sum(g.issued_outside) FROM gone AS g GROUP BY g.key, g.version;

-- name: census
SELECT t.key, t.version, t.stored, t.issued_outside FROM keyriver.census_totals AS t WHERE t.key = ANY ($1::uuid[]);

-- name: inspect
SELECT
    current_setting('server_version') AS version,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') = 'on' AS fsync,
    NOT pg_is_in_recovery() AS is_primary,
    coalesce((SELECT s.ssl FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()), false) AS ssl;
