-- migrate:up

-- HYOK (S13): where one version of an L1 stays in its customer's keystore, and what may be done with it.
CREATE TABLE keyriver.links (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key uuid NOT NULL,
    version int NOT NULL,
    provider text NOT NULL,
    endpoint text NOT NULL,
    external_key text NOT NULL,
    credential text NOT NULL,
    state text NOT NULL,
    "inner" uuid NOT NULL,
    serial text NOT NULL,
    external_version text NOT NULL,
    sovereign boolean NOT NULL,
    created_ms bigint NOT NULL,
    revision bigint NOT NULL,
    cut_revision bigint,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX links_of_a_tenant ON keyriver.links (tenant, id);

-- `link` stands in the versions of an L1 that is outside; `digest` is the SHA-256 of the inner blob of what stands under
-- one. The inner blob itself is never stored.
ALTER TABLE keyriver.versions ADD COLUMN link uuid, ADD COLUMN digest bytea;

-- migrate:down

ALTER TABLE keyriver.versions DROP COLUMN digest, DROP COLUMN link;
DROP TABLE keyriver.links;
