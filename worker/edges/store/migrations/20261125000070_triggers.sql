-- migrate:up

-- Which occasion starts what (S18); `id` is `tenant/name`.
CREATE TABLE keyriver.trigger_rules (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    event text NOT NULL,
    pattern text NOT NULL,
    action text NOT NULL,
    period_s bigint NOT NULL,
    items_s int NOT NULL,
    hsm_share int NOT NULL,
    why text NOT NULL,
    enrolled_by text NOT NULL,
    created_ms bigint NOT NULL,
    revoked boolean NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX trigger_rules_of_tenant ON keyriver.trigger_rules (tenant, id);

-- migrate:down

DROP TABLE keyriver.trigger_rules;
