-- migrate:up

-- The grace with which a version is scheduled for destruction once its campaign is done; NULL: it is kept.
ALTER TABLE keyriver.campaigns ADD COLUMN destroy_after_s bigint;
ALTER TABLE keyriver.trigger_rules ADD COLUMN destroy_after_s bigint;

-- migrate:down

ALTER TABLE keyriver.campaigns DROP COLUMN destroy_after_s;
ALTER TABLE keyriver.trigger_rules DROP COLUMN destroy_after_s;
