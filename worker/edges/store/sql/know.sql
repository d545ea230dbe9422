-- name: know
-- Everything a batch asks for, in one statement and so of one moment. Each row of the result is of one kind: the
-- clock, a ledger entry, a DEK (all three flat, for there may be many), or a row that carries a MAC (composite, the rarer as JSON).
-- `OFFSET 0` keeps each subquery whole: the list drives, the table is read by index, whatever the statistics say.
WITH RECURSIVE
found AS (
    SELECT d.id, d.key, d.version, d.blob
    FROM unnest($1::uuid[]) AS q (id)
    CROSS JOIN LATERAL (SELECT * FROM keyriver.deks AS t WHERE t.id = q.id OFFSET 0) AS d
),
named AS (
    SELECT a.key
    FROM unnest($2::text[]) AS q (name)
    CROSS JOIN LATERAL (SELECT t.key FROM keyriver.aliases AS t WHERE t.name = q.name OFFSET 0) AS a
),
-- (key, number): a version that is wanted; number 0 only leads to the active one.
reached (key, number) AS (
    (
        SELECT q.key, q.number FROM unnest($3::uuid[], $4::int[]) AS q (key, number)
        UNION
        SELECT n.key, 0 FROM named AS n
        UNION
        SELECT f.key, f.version FROM found AS f
        UNION
        SELECT q.key, v.number
        FROM unnest($5::uuid[]) AS q (key)
        CROSS JOIN LATERAL (SELECT t.number FROM keyriver.versions AS t WHERE t.key = q.key OFFSET 0) AS v
    )
    UNION
    SELECT next.key, next.number
    FROM reached AS r
    CROSS JOIN LATERAL (SELECT * FROM keyriver.keys AS t WHERE t.id = r.key OFFSET 0) AS k
    LEFT JOIN LATERAL (
        SELECT t.parent_version FROM keyriver.versions AS t WHERE t.key = r.key AND t.number = r.number OFFSET 0
    ) AS v ON true
    CROSS JOIN LATERAL (VALUES (k.id, k.active_version), (k.parent, v.parent_version)) AS next (key, number)
    WHERE next.key IS NOT NULL AND next.number IS NOT NULL
),
touched AS (SELECT DISTINCT r.key FROM reached AS r)
SELECT
    'now' AS kind,
    (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint AS now_ms,
    NULL::uuid AS id, NULL::uuid AS key, NULL::int AS version, NULL::bytea AS blob,
    NULL::text AS tenant, NULL::text AS client, NULL::text AS source, NULL::text AS request,
    NULL::text AS operation, NULL::bytea[] AS outcomes,
    NULL::keyriver.tenants AS tenants, NULL::keyriver.keys AS keys, NULL::keyriver.versions AS versions,
    NULL::keyriver.aliases AS aliases, NULL::keyriver.clients AS clients, NULL::keyriver.intake_keys AS intake_keys,
    NULL::jsonb AS doc
UNION ALL
SELECT 'dek', NULL, f.id, f.key, f.version, f.blob,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found AS f
UNION ALL
SELECT 'ledger', NULL, NULL, NULL, NULL, l.digest,
    l.tenant, l.client, l.source, l.id, l.operation, l.outcomes, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($6::text[], $7::text[], $8::text[], $9::text[]) AS q (tenant, client, source, id)
CROSS JOIN LATERAL (
    SELECT * FROM keyriver.ledger AS t
    WHERE t.tenant = q.tenant AND t.client = q.client AND t.source = q.source AND t.id = q.id
    OFFSET 0
) AS l
UNION ALL
SELECT 'tenants', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($10::text[]) AS q (id)
CROSS JOIN LATERAL (SELECT t AS found FROM keyriver.tenants AS t WHERE t.id = q.id OFFSET 0) AS one
UNION ALL
SELECT 'keys', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL, NULL, NULL, NULL, NULL
FROM touched AS q
CROSS JOIN LATERAL (SELECT k AS found FROM keyriver.keys AS k WHERE k.id = q.key OFFSET 0) AS one
UNION ALL
SELECT 'versions', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL, NULL, NULL, NULL
FROM reached AS q
CROSS JOIN LATERAL (SELECT v AS found FROM keyriver.versions AS v WHERE v.key = q.key AND v.number = q.number OFFSET 0) AS one
UNION ALL
SELECT 'aliases', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL, NULL, NULL
FROM touched AS q
CROSS JOIN LATERAL (SELECT a AS found FROM keyriver.aliases AS a WHERE a.key = q.key OFFSET 0) AS one
UNION ALL
SELECT 'clients', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL, NULL
FROM unnest($11::text[]) AS q (id)
CROSS JOIN LATERAL (SELECT c AS found FROM keyriver.clients AS c WHERE c.id = q.id OFFSET 0) AS one
UNION ALL
SELECT 'intake_keys', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.found, NULL
FROM unnest($12::bigint[]) AS q (sequence)
CROSS JOIN LATERAL (SELECT i AS found FROM keyriver.intake_keys AS i WHERE i.sequence = q.sequence OFFSET 0) AS one
UNION ALL
SELECT o.kind, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, o.doc
FROM keyriver.rows_v1($13::text[], $14::text[]) AS o
UNION ALL
SELECT 'rules', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.doc
FROM unnest($15::text[]) AS q (client)
CROSS JOIN LATERAL (
    SELECT to_jsonb(t) AS doc FROM keyriver.rules AS t
    WHERE t.client = q.client AND NOT t.revoked
        AND t.not_after_ms > (extract(EPOCH FROM statement_timestamp()) * 1000)::bigint
    OFFSET 0
) AS one
UNION ALL
SELECT 'grants', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.doc
FROM unnest($15::text[]) AS q (client)
CROSS JOIN LATERAL (
    SELECT to_jsonb(t) AS doc FROM keyriver.grants AS t
    WHERE t.client = q.client AND NOT t.revoked
        AND t.not_after_ms > (extract(EPOCH FROM statement_timestamp()) * 1000)::bigint
    OFFSET 0
) AS one
UNION ALL
SELECT 'quotas', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, one.doc
FROM unnest($16::text[]) AS q (id)
CROSS JOIN LATERAL (SELECT to_jsonb(t) AS doc FROM keyriver.quotas AS t WHERE t.id = q.id OFFSET 0) AS one
UNION ALL
SELECT 'links', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, to_jsonb(l)
FROM reached AS q
CROSS JOIN LATERAL (SELECT v.link FROM keyriver.versions AS v WHERE v.key = q.key AND v.number = q.number OFFSET 0) AS v
CROSS JOIN LATERAL (SELECT * FROM keyriver.links AS t WHERE t.id = v.link OFFSET 0) AS l
UNION ALL
SELECT 'regions', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, to_jsonb(r)
FROM (
    SELECT DISTINCT k.region FROM touched AS q
    CROSS JOIN LATERAL (SELECT t.region FROM keyriver.keys AS t WHERE t.id = q.key OFFSET 0) AS k
    WHERE k.region <> ''
) AS q
CROSS JOIN LATERAL (SELECT * FROM keyriver.regions AS t WHERE t.id = q.region OFFSET 0) AS r;

-- name: key_page
SELECT k.id FROM keyriver.keys AS k WHERE k.tenant = $1 AND k.id > $2 ORDER BY k.id LIMIT $3;

-- name: client_page
SELECT c.id FROM keyriver.clients AS c WHERE c.tenant = $1 AND c.id > $2 ORDER BY c.id LIMIT $3;

-- name: row_page
SELECT p.name FROM keyriver.page_v1($1, $2, $3, $4) AS p;

-- name: below
-- A key and everything that hangs on it, counted: the blast radius of its switch. The census is folded, so a million
-- DEKs are a few rows; keys are found by their parent's index, layer by layer.
WITH RECURSIVE tree (id, layer, region, purpose) AS (
    SELECT k.id, k.layer, k.region, k.purpose FROM keyriver.keys AS k WHERE k.id = $1
    UNION  -- and not all: rows that somebody tied into a ring must come to an end
    SELECT c.id, c.layer, c.region, c.purpose
    FROM tree AS t
    CROSS JOIN LATERAL (SELECT * FROM keyriver.keys AS k WHERE k.parent = t.id OFFSET 0) AS c
)
SELECT t.id, coalesce(a.name, '') AS alias, t.layer, t.region, t.purpose, v.versions, c.deks, c.outside
FROM tree AS t
CROSS JOIN LATERAL (
    SELECT min(x.name) AS name FROM (SELECT y.name FROM keyriver.aliases AS y WHERE y.key = t.id OFFSET 0) AS x
) AS a
CROSS JOIN LATERAL (SELECT count(*) AS versions FROM keyriver.versions AS x WHERE x.key = t.id) AS v
CROSS JOIN LATERAL (
    SELECT coalesce(sum(x.stored), 0)::bigint AS deks, coalesce(sum(x.issued_outside), 0)::bigint AS outside
    FROM keyriver.census AS x WHERE x.key = t.id
) AS c;

-- name: needs
-- What needs one key version: read after the version's row, whose state lets nothing new in.
SELECT
    coalesce(sum(x.stored), 0)::bigint AS deks,
    coalesce(sum(x.issued_outside), 0)::bigint AS issued_outside,
    (
        SELECT count(*)
        FROM keyriver.keys AS k
        CROSS JOIN LATERAL (SELECT v.state, v.parent_version FROM keyriver.versions AS v WHERE v.key = k.id OFFSET 0) AS w
        WHERE k.parent = $1 AND w.parent_version = $2 AND w.state <> 'destroyed'
    ) AS children
FROM keyriver.census AS x WHERE x.key = $1 AND x.version = $2;

-- name: rests
-- How many rows and private halves of intake keys rest on each version of a fleet key. It reads whole tables: for people.
SELECT 'row-mac' AS kind, r.version AS number, r.found AS rests FROM keyriver.mac_versions_v1($1) AS r
UNION ALL
SELECT 'intake-wrap', (get_byte(i.wrapped_private, 2) << 8) + get_byte(i.wrapped_private, 3), count(*)
FROM keyriver.intake_keys AS i WHERE i.wrapped_private <> ''
GROUP BY 2;
