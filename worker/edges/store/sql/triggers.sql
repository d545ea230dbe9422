-- What rules of triggers wait for, and the fleet sees by itself (S18). Whatever is found here is decided on verified rows.

-- name: triggers_watched
SELECT EXISTS (
    SELECT FROM keyriver.trigger_rules AS r
    WHERE NOT r.revoked AND r.event IN ('key-age', 'use-count', 'parent-rotated', 'provider-version')
);

-- name: key_page_end
SELECT k.id FROM keyriver.keys AS k WHERE k.id > $1 ORDER BY k.id OFFSET $2 - 1 LIMIT 1;

-- name: occasions
SELECT DISTINCT r.event, k.tenant, k.id, found.number
FROM keyriver.keys AS k
JOIN keyriver.trigger_rules AS r ON r.tenant = k.tenant AND NOT r.revoked
JOIN keyriver.versions AS v ON v.key = k.id AND v.number = k.active_version
CROSS JOIN LATERAL (
    SELECT v.number
    WHERE r.event = 'key-age'
        AND v.created_ms + r.period_s * 1000 <= (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
    UNION ALL
    SELECT u.version FROM keyriver.uses AS u
    WHERE r.event = 'use-count' AND u.key = k.id AND u.version = v.number AND u.leased >= $3
    UNION ALL
    (
        SELECT c.parent_version FROM keyriver.keys AS b JOIN keyriver.versions AS c ON c.key = b.id
        WHERE r.event = 'parent-rotated' AND b.parent = k.id AND c.parent_version <> v.number
            AND c.retired_ms IS NULL AND c.state <> 'destroyed'
        ORDER BY c.parent_version DESC LIMIT 1
    )
    UNION ALL
    SELECT v.number FROM keyriver.links AS l
    WHERE r.event = 'provider-version' AND l.key = k.parent AND l.version = v.parent_version
        AND l.rotated_ms > v.created_ms
) AS found (number)
WHERE k.id > $1 AND k.id <= $2 AND (r.pattern = '*' OR EXISTS (
    SELECT FROM keyriver.aliases AS a
    WHERE a.key = k.id AND a.name LIKE translate(replace(r.pattern, '_', '\_'), '*?', '%_')
))
ORDER BY k.id;
