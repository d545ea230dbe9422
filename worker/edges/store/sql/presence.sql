-- name: beat
-- Whether the session was alive until now, and from now on it is. The first look sees the row as it was before.
WITH was AS (
    SELECT w.expires >= clock_timestamp() AS alive FROM keyriver.workers AS w WHERE w.run = $1
)
INSERT INTO keyriver.workers AS w (run, name, seen, expires)
VALUES ($1, $2, clock_timestamp(), clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (run) DO UPDATE SET seen = excluded.seen, expires = excluded.expires
RETURNING coalesce((SELECT was.alive FROM was), false);

-- name: condemned
(
    SELECT v.key, v.number FROM keyriver.versions AS v
    WHERE
        v.due_ms IS NOT NULL AND v.due_ms <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
        AND v.state = 'destroy-scheduled'
    ORDER BY v.due_ms LIMIT $1
)
UNION
(
    SELECT v.key, v.number FROM keyriver.versions AS v
    WHERE v.not_after_ms IS NOT NULL AND v.absent AND v.material IS NOT NULL
    ORDER BY v.not_after_ms LIMIT $1
)
LIMIT $1;

-- name: confirm
INSERT INTO keyriver.confirmations (run, key, version, revision)
SELECT $1, q.key, q.version, q.revision FROM unnest($2::uuid[], $3::int[], $4::bigint[]) AS q (key, version, revision)
ON CONFLICT DO NOTHING;

-- name: awaited
SELECT q.ord, w.name
FROM unnest($1::uuid[], $2::int[], $3::bigint[]) WITH ORDINALITY AS q (key, version, revision, ord)
CROSS JOIN keyriver.workers AS w
WHERE
    w.expires >= clock_timestamp()
    AND NOT EXISTS (
        SELECT FROM keyriver.confirmations AS c
        WHERE c.run = w.run AND c.key = q.key AND c.version = q.version AND c.revision = q.revision
    )
ORDER BY q.ord, w.name;

-- name: prune_workers
WITH gone AS (
    DELETE FROM keyriver.workers AS w WHERE w.expires < now() - interval '1 day' RETURNING w.run
)
DELETE FROM keyriver.confirmations AS c
WHERE NOT EXISTS (SELECT FROM keyriver.workers AS w WHERE w.run = c.run) OR c.run IN (SELECT g.run FROM gone AS g);

-- name: tell_pace
UPDATE keyriver.workers AS w SET p99_ms = $2, pace = $3 WHERE w.run = $1;

-- name: neighbours
-- A process that was not seen for some seconds is dead or frozen: how slow it was says nothing any more.
SELECT coalesce(max(w.p99_ms), 0)::int AS p99_ms, count(w.pace)::int AS bulk
FROM keyriver.workers AS w
WHERE w.expires >= clock_timestamp() AND w.seen >= clock_timestamp() - interval '5 seconds';
