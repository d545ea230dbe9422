-- name: assigned
INSERT INTO keyriver.attempts AS a (consumer_group, topic, partition, "offset", times) VALUES ($1, $2, $3, $4, 1)
ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET
    times = CASE WHEN a."offset" = excluded."offset" THEN a.times + 1 ELSE 1 END,
    "offset" = excluded."offset"
RETURNING a.times;

-- name: released
DELETE FROM keyriver.attempts WHERE consumer_group = $1 AND topic = $2 AND partition = $3;

-- name: begin_alone
INSERT INTO keyriver.alone AS a (consumer_group, topic, partition, "offset", times) VALUES ($1, $2, $3, $4, 1)
ON CONFLICT (consumer_group, topic, partition, "offset") DO UPDATE SET times = a.times + 1
RETURNING a.times;

-- name: end_alone
DELETE FROM keyriver.alone WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND "offset" = $4;
