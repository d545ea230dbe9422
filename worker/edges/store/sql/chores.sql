-- name: prune_ledger
SELECT keyriver.prune_ledger_v1($1, $2);

-- name: prune_slices
SELECT keyriver.prune_slices_v1($1, $2);

-- name: prune_outbox
WITH gone AS (
    DELETE FROM keyriver.outbox AS o WHERE o.id = ANY (ARRAY(
        SELECT d.id FROM keyriver.outbox AS d
        WHERE d.acknowledged < now() - $1::interval
        ORDER BY d.acknowledged LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING o.id
)
SELECT count(*) FROM gone;

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

-- name: private_halves
SELECT i.sequence FROM keyriver.intake_keys AS i WHERE i.sequence < $1 AND i.wrapped_private <> '' ORDER BY i.sequence;

-- name: inspect
SELECT
    current_setting('server_version') AS version,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') = 'on' AS fsync,
    NOT pg_is_in_recovery() AS is_primary,
    coalesce((SELECT s.ssl FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()), false) AS ssl;
