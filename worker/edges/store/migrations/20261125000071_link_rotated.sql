-- migrate:up

-- When the customer's keystore was first seen with the key's present version: what was made before is under an older one.
ALTER TABLE keyriver.links ADD COLUMN rotated_ms bigint;

-- migrate:down

ALTER TABLE keyriver.links DROP COLUMN rotated_ms;
