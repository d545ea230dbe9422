-- name: campaigns_at_work
SELECT c.tenant, c.id FROM keyriver.campaigns AS c WHERE c.state IN ('running', 'verifying') ORDER BY c.id;

-- name: campaigns_below
SELECT c.id FROM keyriver.campaigns AS c WHERE c.parent = $1 ORDER BY c.id;

-- name: lease_slice
SELECT * FROM keyriver.lease_slice_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: release_slice
UPDATE keyriver.campaign_slices AS s SET expires = '-infinity'
WHERE s.campaign = $1 AND s.round = $2 AND s.number = $3 AND s.epoch = $4 AND s.done_at IS NULL;

-- name: slice_deks
-- A row is the old version's if its column or its blob's header (version: bytes 21 to 24) says so: a row that somebody
-- relabelled is found, too, and fails. Compared as pairs, key and id are read by the one index that has both in order:
-- the primary key, which a planner may like while a table is small, would read every other key's rows as well.
SELECT d.id, d.version, d.blob FROM keyriver.deks AS d
WHERE (d.key, d.id) > ($1, $2) AND (d.key, d.id) <= ($1, $3)
    AND (d.version = $4 OR substr(d.blob, 21, 4) = int4send($4))
ORDER BY d.key, d.id;

-- name: slice_versions
SELECT v.key, v.number
FROM keyriver.keys AS k
CROSS JOIN LATERAL (
    SELECT w.key, w.number, w.state, w.parent_version FROM keyriver.versions AS w WHERE w.key = k.id OFFSET 0
) AS v
WHERE k.parent = $1 AND k.id > $2 AND k.id <= $3 AND v.parent_version = $4 AND v.state <> 'destroyed'
ORDER BY v.key, v.number;

-- name: settle_alone
SELECT keyriver.settle_alone_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
    $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
    $43, $44, $45, $46, $47, $48, $49, $50, $51, $52
);

-- name: scan_leftovers
-- A page of a key's DEKs: where it ends, and what of it still stands under the old version.
WITH page AS (
    SELECT d.id, d.version, d.blob FROM keyriver.deks AS d
    WHERE (d.key, d.id) > ($1, $2) AND (d.key, d.id) <= ($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
    ORDER BY d.key, d.id LIMIT $3
),
left_over AS (
    SELECT p.id, EXISTS (
        SELECT FROM keyriver.campaign_failures AS f WHERE f.campaign = $5 AND f.item = p.id::text
    ) AS failed
    FROM page AS p WHERE p.version = $4 OR substr(p.blob, 21, 4) = int4send($4)
)
SELECT
    (SELECT count(*) FROM page) AS looked,
    (SELECT p.id FROM page AS p ORDER BY p.id DESC LIMIT 1) AS upto,
    (SELECT count(*) FROM left_over) AS rows,
    (SELECT count(*) FROM left_over AS l WHERE l.failed) AS failed,
    (SELECT l.id FROM left_over AS l WHERE NOT l.failed ORDER BY l.id LIMIT 1) AS first,
    (SELECT l.id FROM left_over AS l WHERE NOT l.failed ORDER BY l.id DESC LIMIT 1) AS last;

-- name: leftover_versions
SELECT v.key AS id, EXISTS (
    SELECT FROM keyriver.campaign_failures AS f WHERE f.campaign = $3 AND f.item = v.key || '/' || v.number
) AS failed
FROM keyriver.keys AS k
CROSS JOIN LATERAL (
    SELECT w.key, w.number, w.state, w.parent_version FROM keyriver.versions AS w WHERE w.key = k.id OFFSET 0
) AS v
WHERE k.parent = $1 AND v.parent_version = $2 AND v.state <> 'destroyed';

-- name: campaign_progress
SELECT
    (SELECT count(*) FROM keyriver.campaign_failures AS f WHERE f.campaign = $1) AS failed,
    count(*) + (
        SELECT coalesce(sum(r.pruned_slices), 0)::bigint FROM keyriver.campaign_rounds AS r WHERE r.campaign = $1
    ) AS slices,
    coalesce(sum(s.items), 0)::bigint + (
        SELECT coalesce(sum(r.pruned_items), 0)::bigint FROM keyriver.campaign_rounds AS r WHERE r.campaign = $1
    ) AS moved,
    coalesce(
        sum(s.items) FILTER (WHERE s.done_at > now() - interval '60 seconds')
        / greatest(1, extract(EPOCH FROM
            clock_timestamp() - min(s.leased_at) FILTER (WHERE s.done_at > now() - interval '60 seconds'))), 0
    )::double precision AS rate
FROM keyriver.campaign_slices AS s WHERE s.campaign = $1 AND s.done_at IS NOT NULL;

-- name: slowest_pace
SELECT coalesce(min(w.pace), 1) FROM keyriver.workers AS w
WHERE w.expires >= clock_timestamp() AND w.seen >= clock_timestamp() - interval '5 seconds';

-- name: measured_rate
-- Items per second of the last slices that anybody did: what one process can do. It does several at a time, so what
-- counts is how long it was at any of them, not how long each took; nor does it count while a throttle held it back.
WITH last AS (
    SELECT s.items, s.holder, tstzrange(s.leased_at, s.done_at, '[]') AS during FROM keyriver.campaign_slices AS s
    WHERE s.done_at IS NOT NULL AND s.items > 0 AND s.leased_at <= s.done_at ORDER BY s.done_at DESC LIMIT 100
),
busy AS (
    SELECT sum(extract(EPOCH FROM upper(t.during) - lower(t.during))) AS seconds
    FROM (SELECT range_agg(l.during) AS times FROM last AS l GROUP BY l.holder) AS h, unnest(h.times) AS t (during)
)
SELECT coalesce((SELECT sum(l.items) FROM last AS l) / nullif((SELECT b.seconds FROM busy AS b), 0), 0)::double precision;

-- name: slice_digests
SELECT s.digest FROM keyriver.campaign_slices AS s
WHERE s.campaign = $1 AND s.done_at IS NOT NULL AND s.items > 0 ORDER BY s.round, s.number;

-- name: failure_page
SELECT f.item, f.code, (extract(EPOCH FROM f.at) * 1000)::bigint AS at_ms FROM keyriver.campaign_failures AS f
WHERE f.campaign = $1 AND f.item > $2 ORDER BY f.item LIMIT $3;

-- name: exposed_page
SELECT s.round, s.number, s.exposed FROM keyriver.campaign_slices AS s
WHERE s.campaign = $1 AND (s.round, s.number) > ($2, $3) AND s.exposed <> '{}' ORDER BY s.round, s.number LIMIT $4;

-- name: last_checkpoint
SELECT c.size, c.root, c.time_ms FROM keyriver.checkpoints AS c WHERE c.tenant = $1 ORDER BY c.size DESC LIMIT 1;
