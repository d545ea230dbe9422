-- migrate:up

CREATE SCHEMA IF NOT EXISTS keyriver;

-- Rows that grant or decide. Each carries a MAC over its table, primary key, revision and columns (S7).

CREATE TABLE keyriver.tenants (
    id text COLLATE "C" PRIMARY KEY,
    layers int NOT NULL,
    minimum_suite text NOT NULL,
    enabled boolean NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);

CREATE TABLE keyriver.keys (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    parent uuid,
    layer int NOT NULL,
    purpose text NOT NULL,
    origin text NOT NULL,
    region text NOT NULL,
    enabled boolean NOT NULL,
    active_version int NOT NULL,
    latest_version int NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX keys_of_a_tenant ON keyriver.keys (tenant, id);
CREATE INDEX keys_of_a_parent ON keyriver.keys (parent);

CREATE TABLE keyriver.versions (
    key uuid NOT NULL,
    number int NOT NULL,
    state text NOT NULL,
    wrapping text NOT NULL,
    wrapped bytea NOT NULL,
    parent_version int NOT NULL,
    material uuid,
    serial text NOT NULL,
    created_ms bigint NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL,
    PRIMARY KEY (key, number)
);

CREATE TABLE keyriver.aliases (
    name text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key uuid NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX aliases_of_a_key ON keyriver.aliases (key);

CREATE TABLE keyriver.clients (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    role text NOT NULL,
    algorithm text NOT NULL,
    public_key bytea NOT NULL,
    permissions text[] NOT NULL,
    pattern text NOT NULL,
    reply_topics text[] NOT NULL,
    recipient_suite text,
    recipient_key bytea NOT NULL,
    not_after_ms bigint NOT NULL,
    revoked boolean NOT NULL,
    enrolled_by text NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX clients_of_a_tenant ON keyriver.clients (tenant, id);

CREATE TABLE keyriver.intake_keys (
    sequence bigint PRIMARY KEY,
    suite text NOT NULL,
    public_key bytea NOT NULL,
    wrapped_private bytea NOT NULL,
    not_before_ms bigint NOT NULL,
    not_after_ms bigint NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);

-- One row: which fleet this database belongs to. The signing key is public.
CREATE TABLE keyriver.fleet (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    id text NOT NULL,
    signing_key bytea NOT NULL,
    serial text NOT NULL,
    created_ms bigint NOT NULL,
    backup_recorded_ms bigint
);

-- One row per request that makes or changes something (D1); a NULL outcome is an item still open.
CREATE TABLE keyriver.ledger (
    tenant text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    operation text NOT NULL,
    digest bytea NOT NULL,
    outcomes bytea[] NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, client, source, id)
) PARTITION BY HASH (tenant, client, source, id);
CREATE INDEX ledger_by_age ON keyriver.ledger (at);

-- Wrapped DEKs; the blob's AAD binds them, so they carry no MAC. No index contains the version: a move to another
-- version of the same key stays a HOT update (D8), for which the pages keep room.
CREATE TABLE keyriver.deks (
    id uuid PRIMARY KEY,
    key uuid NOT NULL,
    version int NOT NULL,
    blob bytea NOT NULL
) PARTITION BY HASH (id);
CREATE INDEX deks_of_a_key ON keyriver.deks (key, id);

-- Wrapped bytes look random: compressing them costs time and saves nothing.
ALTER TABLE keyriver.ledger ALTER COLUMN outcomes SET STORAGE EXTERNAL;
ALTER TABLE keyriver.deks ALTER COLUMN blob SET STORAGE EXTERNAL;

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE keyriver.ledger_%1$s PARTITION OF keyriver.ledger FOR VALUES WITH (MODULUS 16, REMAINDER %2$s)',
            lpad(n::text, 2, '0'), n);
        EXECUTE format(
            'CREATE TABLE keyriver.deks_%1$s PARTITION OF keyriver.deks FOR VALUES WITH (MODULUS 16, REMAINDER %2$s)
             WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)',
            lpad(n::text, 2, '0'), n);
    END LOOP;
END
$$;

-- What stands under a key version and what left the database, as deltas (D2 d): no row is hot, a job folds them.
CREATE TABLE keyriver.census (
    key uuid NOT NULL,
    version int NOT NULL,
    stored bigint NOT NULL,
    issued_outside bigint NOT NULL
);
CREATE INDEX census_of_a_version ON keyriver.census (key, version);

CREATE VIEW keyriver.census_totals AS
SELECT key, version, sum(stored)::bigint AS stored, sum(issued_outside)::bigint AS issued_outside
FROM keyriver.census
GROUP BY key, version;

-- Encryptions ever leased per key version (S10).
CREATE TABLE keyriver.uses (
    key uuid NOT NULL,
    version int NOT NULL,
    leased bigint NOT NULL,
    PRIMARY KEY (key, version)
) WITH (fillfactor = 50);

-- Audit leaves (S16), in the order in which they were written.
CREATE TABLE keyriver.leaves (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    body bytea NOT NULL
);

-- Facts without a record (D9), relayed until acknowledged.
CREATE TABLE keyriver.outbox (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    type text NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    acknowledged timestamptz
);
CREATE INDEX outbox_waiting ON keyriver.outbox (number) WHERE acknowledged IS NULL;
CREATE INDEX outbox_done ON keyriver.outbox (acknowledged) WHERE acknowledged IS NOT NULL;

-- How often an assignment began at an offset without ending cleanly, and which records are processed alone (D5).
CREATE TABLE keyriver.attempts (
    consumer_group text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    times int NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
);

CREATE TABLE keyriver.alone (
    consumer_group text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    times int NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition, "offset")
);

-- migrate:down

DROP VIEW keyriver.census_totals;
DROP TABLE
    keyriver.tenants, keyriver.keys, keyriver.versions, keyriver.aliases, keyriver.clients, keyriver.intake_keys,
    keyriver.fleet, keyriver.ledger, keyriver.deks, keyriver.census, keyriver.uses, keyriver.leaves, keyriver.outbox,
    keyriver.attempts, keyriver.alone;
