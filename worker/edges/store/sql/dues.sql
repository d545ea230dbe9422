-- name: lead
INSERT INTO keyriver.duties AS d (name, holder, until) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE d.until < now() OR d.holder = excluded.holder
RETURNING true;

-- name: versions_due
SELECT v.key, v.number FROM keyriver.versions AS v
WHERE v.serial IN ('', $2) AND v.due_ms IS NOT NULL AND v.due_ms <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
ORDER BY v.due_ms LIMIT $1;

-- name: approvals_due
SELECT p.id FROM keyriver.approvals AS p
WHERE p.state = 'pending' AND p.expires_ms <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
ORDER BY p.expires_ms LIMIT $1;

-- name: materials_due
SELECT v.key, v.number FROM keyriver.versions AS v
WHERE v.serial IN ('', $2) AND v.not_after_ms IS NOT NULL
    AND v.not_after_ms <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
ORDER BY v.not_after_ms LIMIT $1;

-- name: imports_due
SELECT i.id FROM keyriver.imports AS i
WHERE i.serial = $2 AND i.material IS NOT NULL
    AND (i.state <> 'open' OR i.expires_ms <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint)
ORDER BY i.expires_ms LIMIT $1;
