-- name: fleet
SELECT
    f.id, f.signing_key, f.serial, f.created_ms, f.backup_recorded_ms,
    (SELECT max(k.since_ms) FROM keyriver.fleet_keys AS k) AS rotated_ms
FROM keyriver.fleet AS f;

-- name: found_fleet
-- The first init founds the fleet; a second one changes nothing.
INSERT INTO keyriver.fleet (id, signing_key, serial, created_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: record_backup
UPDATE keyriver.fleet SET backup_recorded_ms = $1;
