-- migrate:up

-- Import parameters (S12): one RSA key in a token each, good for one import within a day.
CREATE TABLE keyriver.imports (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key uuid NOT NULL,
    algorithm text NOT NULL,
    bits int NOT NULL,
    public_key bytea NOT NULL,
    material uuid,
    serial text NOT NULL,
    expires_ms bigint NOT NULL,
    failures int NOT NULL,
    state text NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX imports_of_a_tenant ON keyriver.imports (tenant, id);
CREATE INDEX imports_due ON keyriver.imports (expires_ms) WHERE material IS NOT NULL;

-- Imported material: when it is deleted, whether it is, and what proves that it came back. NULL is the model's default.
ALTER TABLE keyriver.versions ADD COLUMN not_after_ms bigint, ADD COLUMN absent boolean, ADD COLUMN canary bytea;
CREATE INDEX materials_due ON keyriver.versions (not_after_ms) WHERE not_after_ms IS NOT NULL;

-- migrate:down

DROP INDEX keyriver.materials_due;
ALTER TABLE keyriver.versions DROP COLUMN not_after_ms, DROP COLUMN absent, DROP COLUMN canary;
DROP TABLE keyriver.imports;
