-- name: sequencer_hold
-- Take the lease if it is free or ours; a new holder is a new epoch.
UPDATE keyriver.sequencer AS s SET
    epoch = s.epoch + (s.holder IS DISTINCT FROM $1)::int,
    holder = $1,
    until = clock_timestamp() + $2::interval
WHERE s.holder = $1 OR s.until < clock_timestamp()
RETURNING s.epoch;

-- name: sequencer_release
UPDATE keyriver.sequencer SET until = '-infinity' WHERE holder = $1;

-- name: unsequenced
SELECT l.number, l.id, l.tenant, (extract(epoch FROM l.at) * 1000000)::bigint AS at_us, l.body
FROM keyriver.unsequenced AS u
JOIN LATERAL (SELECT * FROM keyriver.leaves AS k WHERE k.number = u.number OFFSET 0) AS l ON true
WHERE u.number > $1 ORDER BY u.number LIMIT $2;

-- name: log_heads
SELECT l.tenant, l.size, l.frontier FROM keyriver.logs AS l WHERE l.tenant = ANY ($1::text[]);

-- name: log_append
SELECT keyriver.append_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: log_due
SELECT
    l.tenant, l.size, l.frontier, (extract(epoch FROM now()) * 1000)::bigint AS now_ms,
    c.fleet, c.size AS last_size, c.root, c.time_ms, c.previous_size, c.consistency, c.signature
FROM keyriver.logs AS l
LEFT JOIN LATERAL (
    SELECT * FROM keyriver.checkpoints AS k WHERE k.tenant = l.tenant ORDER BY k.size DESC LIMIT 1
) AS c ON true
WHERE l.signed < l.size ORDER BY l.tenant LIMIT $1;

-- name: log_nodes
SELECT n.tenant, n.level, n.index, n.hash
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS s (tenant, level, first, count)
JOIN LATERAL (
    SELECT k.tenant, k.level, k.index, k.hash FROM keyriver.log_nodes AS k
    WHERE s.level > 0 AND k.tenant = s.tenant AND k.level = s.level AND k.index >= s.first AND k.index < s.first + s.count
    UNION ALL
    SELECT e.tenant, 0, e.index, e.hash FROM keyriver.log_entries AS e
    WHERE s.level = 0 AND e.tenant = s.tenant AND e.index >= s.first AND e.index < s.first + s.count
    OFFSET 0
) AS n ON true;

-- name: log_checkpoint
SELECT keyriver.store_checkpoints_v1($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: log_unpublished
SELECT c.tenant, c.size, c.fleet, c.root, c.time_ms, c.previous_size, c.consistency, c.signature
FROM keyriver.checkpoints AS c WHERE c.published IS NULL ORDER BY c.tenant, c.size LIMIT $1;

-- name: log_published
UPDATE keyriver.checkpoints AS c SET published = now()
FROM unnest($1::text[], $2::bigint[]) AS p (tenant, size)
WHERE c.tenant = p.tenant AND c.size = p.size;

-- name: log_behind
-- Seconds since the oldest leaf that is in no log, growth that is not signed, or checkpoint that is not published.
SELECT greatest(
    (SELECT extract(epoch FROM clock_timestamp() - l.at) FROM keyriver.unsequenced AS u
        JOIN LATERAL (SELECT * FROM keyriver.leaves AS k WHERE k.number = u.number OFFSET 0) AS l ON true
        ORDER BY u.number LIMIT 1),
    (SELECT extract(epoch FROM clock_timestamp() - min(l.grown)) FROM keyriver.logs AS l WHERE l.signed < l.size),
    (SELECT extract(epoch FROM clock_timestamp()) - min(c.time_ms) / 1000.0
        FROM keyriver.checkpoints AS c WHERE c.published IS NULL),
    0
)::float8;

-- name: trail
SELECT e.tenant, e.index, e.number, e.leaf, e.hash, l.id, l.tenant AS leaf_tenant,
    (extract(epoch FROM l.at) * 1000000)::bigint AS at_us, l.body
FROM keyriver.log_entries AS e
LEFT JOIN LATERAL (SELECT * FROM keyriver.leaves AS k WHERE k.number = e.number OFFSET 0) AS l ON true
WHERE e.tenant = $1 AND e.index >= $2 ORDER BY e.index;

-- name: trail_tenants
SELECT t.tenant FROM keyriver.logs AS t WHERE $1 = '' OR t.tenant = $1
UNION
SELECT c.tenant FROM keyriver.checkpoints AS c WHERE $1 = '' OR c.tenant = $1
UNION
(WITH RECURSIVE names AS (
    (SELECT e.tenant FROM keyriver.log_entries AS e ORDER BY e.tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT e.tenant FROM keyriver.log_entries AS e WHERE e.tenant > n.tenant ORDER BY e.tenant LIMIT 1)
    FROM names AS n WHERE n.tenant IS NOT NULL
) SELECT n.tenant FROM names AS n WHERE n.tenant IS NOT NULL AND ($1 = '' OR n.tenant = $1))
ORDER BY 1;

-- name: trail_checkpoints
SELECT c.tenant, c.size, c.fleet, c.root, c.time_ms, c.previous_size, c.consistency, c.signature
FROM keyriver.checkpoints AS c WHERE c.tenant = $1 ORDER BY c.size;

-- name: trail_checkpoint_of
SELECT c.tenant, c.size, c.fleet, c.root, c.time_ms, c.previous_size, c.consistency, c.signature
FROM keyriver.checkpoints AS c WHERE c.tenant = $1 AND c.size > $2 ORDER BY c.size DESC LIMIT 1;

-- name: trail_strays
SELECT l.number, l.id, l.tenant FROM keyriver.leaves AS l
LEFT JOIN keyriver.log_entries AS e ON e.number = l.number
LEFT JOIN keyriver.unsequenced AS u ON u.number = l.number
WHERE e.number IS NULL AND u.number IS NULL AND ($1 = '' OR l.tenant = $1)
UNION ALL
SELECT u.number, NULL, NULL FROM keyriver.unsequenced AS u
LEFT JOIN keyriver.leaves AS l ON l.number = u.number
WHERE l.number IS NULL AND $1 = ''
LIMIT $2;

-- name: trail_of_a_leaf
SELECT e.tenant, e.index FROM keyriver.log_entries AS e WHERE e.leaf = $1 ORDER BY e.tenant, e.index LIMIT 10;

-- name: trail_of_a_request
-- No index: whoever looks for a proof may wait for a scan. What was found is read and compared afterwards.
SELECT e.tenant, e.index FROM keyriver.leaves AS l
JOIN LATERAL (SELECT * FROM keyriver.log_entries AS k WHERE k.number = l.number OFFSET 0) AS e ON true
WHERE position($1::bytea IN l.body) > 0 AND ($2 = '' OR l.tenant = $2)
ORDER BY l.number LIMIT 10;

-- name: trail_rotations
SELECT
    k.id, k.kind, k.number, k.state, k.since_ms, k.revision, k.tenant,
    k.public_key, k.predecessor, k.by_predecessor, k.by_itself
FROM keyriver.fleet_keys AS k
WHERE k.kind = 'signing' AND k.public_key IS NOT NULL AND k.by_itself IS NOT NULL
ORDER BY k.number;
