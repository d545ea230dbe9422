-- name: lease
-- $1 key, $2 version, $3 count, $4 limit, $5 id, $6 type and $7 body of the event that says the limit was crossed.
-- The event is written by the one lease that crosses, in the same statement (S10).
WITH summed AS (
    INSERT INTO keyriver.uses AS u (key, version, leased) VALUES ($1, $2, $3)
    ON CONFLICT (key, version) DO UPDATE SET leased = u.leased + excluded.leased
    RETURNING u.leased
),
crossed AS (
    INSERT INTO keyriver.outbox (id, type, tenant, body)
    SELECT $5, $6, coalesce((SELECT k.tenant FROM keyriver.keys AS k WHERE k.id = $1), ''), $7
    FROM summed AS s
    WHERE s.leased >= $4 AND s.leased - $3 < $4
    ON CONFLICT DO NOTHING
)
SELECT s.leased FROM summed AS s;

-- name: lease_quotas
SELECT t.granted, t.wait_ms FROM keyriver.take_quota_v1($1, $2, $3, $4, $5) AS t ORDER BY t.ord;
