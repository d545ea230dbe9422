-- name: know
-- Everything a batch asks for, in one statement and so of one moment. Each row of the result is of one kind: the
-- clock, a ledger entry, a DEK (all three flat, for there may be many), or a row that carries a MAC (composite).
WITH RECURSIVE
found AS (
    SELECT d.id, d.key, d.version, d.blob
    FROM unnest($1::uuid[]) AS q (id)
    JOIN keyriver.deks AS d ON d.id = q.id
),
named AS (
    SELECT a.key FROM unnest($2::text[]) AS q (name) JOIN keyriver.aliases AS a ON a.name = q.name
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
        SELECT t.key, v.number FROM unnest($5::uuid[]) AS t (key) JOIN keyriver.versions AS v ON v.key = t.key
    )
    UNION
    SELECT next.key, next.number
    FROM reached AS r
    JOIN keyriver.keys AS k ON k.id = r.key
    LEFT JOIN keyriver.versions AS v ON v.key = r.key AND v.number = r.number
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
    NULL::keyriver.aliases AS aliases, NULL::keyriver.clients AS clients, NULL::keyriver.intake_keys AS intake_keys
UNION ALL
SELECT 'dek', NULL, f.id, f.key, f.version, f.blob,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found AS f
UNION ALL
SELECT 'ledger', NULL, NULL, NULL, NULL, l.digest,
    l.tenant, l.client, l.source, l.id, l.operation, l.outcomes, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($6::text[], $7::text[], $8::text[], $9::text[]) AS q (tenant, client, source, id)
JOIN keyriver.ledger AS l ON l.tenant = q.tenant AND l.client = q.client AND l.source = q.source AND l.id = q.id
UNION ALL
SELECT 'tenants', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, t, NULL, NULL, NULL, NULL, NULL
FROM unnest($10::text[]) AS q (id)
JOIN keyriver.tenants AS t ON t.id = q.id
UNION ALL
SELECT 'keys', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, k, NULL, NULL, NULL, NULL
FROM touched AS q
JOIN keyriver.keys AS k ON k.id = q.key
UNION ALL
SELECT 'versions', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, v, NULL, NULL, NULL
FROM reached AS q
JOIN keyriver.versions AS v ON v.key = q.key AND v.number = q.number
UNION ALL
SELECT 'aliases', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, a, NULL, NULL
FROM touched AS q
JOIN keyriver.aliases AS a ON a.key = q.key
UNION ALL
SELECT 'clients', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c, NULL
FROM unnest($11::text[]) AS q (id)
JOIN keyriver.clients AS c ON c.id = q.id
UNION ALL
SELECT 'intake_keys', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i
FROM unnest($12::bigint[]) AS q (sequence)
JOIN keyriver.intake_keys AS i ON i.sequence = q.sequence;

-- name: key_page
SELECT k.id FROM keyriver.keys AS k WHERE k.tenant = $1 AND k.id > $2 ORDER BY k.id LIMIT $3;

-- name: client_page
SELECT c.id FROM keyriver.clients AS c WHERE c.tenant = $1 AND c.id > $2 ORDER BY c.id LIMIT $3;
