-- name: older_macs
SELECT o.doc FROM keyriver.older_macs_v1($1, $2::jsonb, $3, $4) AS o (doc);

-- name: renew_mac
-- The outbox row is written only when the MAC was.
WITH renewed AS MATERIALIZED (SELECT keyriver.renew_mac_v1($1, $2::jsonb, $3, $4) AS done),
told AS (
    INSERT INTO keyriver.outbox (id, type, tenant, body)
    SELECT $5, $6, $7, $8 FROM renewed AS r WHERE r.done
)
SELECT r.done FROM renewed AS r;
