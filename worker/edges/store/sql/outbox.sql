-- name: outbox_waiting
SELECT o.id, o.type, o.tenant, o.body FROM keyriver.outbox AS o
WHERE o.acknowledged IS NULL AND (o.type = $2) = $3 ORDER BY o.number LIMIT $1;

-- name: outbox_acknowledge
UPDATE keyriver.outbox SET acknowledged = now() WHERE id = ANY ($1::uuid[]) AND acknowledged IS NULL;
