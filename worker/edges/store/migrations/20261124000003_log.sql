-- migrate:up

-- Leaves that are in no log yet. A trigger fills it, so that leaves of older workers are not forgotten; and since it is
-- emptied row by row, a leaf that commits late, under a number below others, is not passed over.
CREATE TABLE keyriver.unsequenced (
    number bigint PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- One Merkle log per tenant (S16): its end, and how far a checkpoint was signed. A frontier is its hashes in one string.
CREATE TABLE keyriver.logs (
    tenant text COLLATE "C" PRIMARY KEY,
    size bigint NOT NULL,
    frontier bytea NOT NULL,
    signed bigint NOT NULL DEFAULT 0,
    grown timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX logs_to_be_signed ON keyriver.logs (tenant) WHERE signed < size;

CREATE TABLE keyriver.log_entries (
    tenant text COLLATE "C" NOT NULL,
    index bigint NOT NULL,
    number bigint NOT NULL UNIQUE,
    leaf uuid NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant, index)
);
CREATE INDEX log_entries_of_a_leaf ON keyriver.log_entries (leaf);

-- Roots of full subtrees of 256, 65,536 … entries: proofs are made from these and a few hundred entries.
CREATE TABLE keyriver.log_nodes (
    tenant text COLLATE "C" NOT NULL,
    level int NOT NULL,
    index bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant, level, index)
);

CREATE TABLE keyriver.checkpoints (
    tenant text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    fleet text NOT NULL,
    root bytea NOT NULL,
    time_ms bigint NOT NULL,
    previous_size bigint NOT NULL,
    consistency bytea NOT NULL,
    signature bytea NOT NULL,
    published timestamptz,
    PRIMARY KEY (tenant, size)
);
CREATE INDEX checkpoints_to_be_published ON keyriver.checkpoints (tenant, size) WHERE published IS NULL;

-- The lease of the one sequencer. Its epoch fences whoever lost it: what he writes later is refused.
CREATE TABLE keyriver.sequencer (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch bigint NOT NULL DEFAULT 0,
    holder uuid,
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO keyriver.sequencer DEFAULT VALUES;

CREATE FUNCTION keyriver.queue_leaves_v1()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keyriver.unsequenced (number) SELECT f.number FROM fresh AS f;
    RETURN NULL;
END
$$;
CREATE TRIGGER queue_leaves AFTER INSERT ON keyriver.leaves
REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION keyriver.queue_leaves_v1();

-- The trigger's lock has made us wait for every writer: what stands there now is all that it did not see.
INSERT INTO keyriver.unsequenced (number) SELECT l.number FROM keyriver.leaves AS l ORDER BY l.number;

-- Whether this epoch still holds; if so, nobody takes over before the end of this transaction.
CREATE FUNCTION keyriver.sequencer_holds_v1(held bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM keyriver.sequencer AS s WHERE s.epoch = held FOR UPDATE;
    RETURN FOUND;
END
$$;

-- Append to logs: all of it, or nothing and false when another holds the lease.
CREATE FUNCTION keyriver.append_v1(
    held bigint,
    head_tenants text[], head_was bigint[], head_sizes bigint[], head_frontiers bytea[],
    entry_tenants text[], entry_indices bigint[], entry_numbers bigint[], entry_leaves uuid[], entry_hashes bytea[],
    node_tenants text[], node_levels int[], node_indices bigint[], node_hashes bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    IF NOT keyriver.sequencer_holds_v1(held) THEN
        RETURN false;
    END IF;
    DELETE FROM keyriver.unsequenced AS u WHERE u.number = ANY (entry_numbers);
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched <> cardinality(entry_numbers) THEN
        RAISE EXCEPTION 'the audit log: leaves were taken from the queue by another hand';
    END IF;
    INSERT INTO keyriver.logs AS l (tenant, size, frontier)
    SELECT h.tenant, h.size, h.frontier
    FROM unnest(head_tenants, head_sizes, head_frontiers) AS h (tenant, size, frontier)
    ON CONFLICT (tenant) DO UPDATE SET
        size = excluded.size, frontier = excluded.frontier,
        grown = CASE WHEN l.signed = l.size THEN now() ELSE l.grown END
    WHERE l.size = head_was[array_position(head_tenants, l.tenant)];
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched <> cardinality(head_tenants) THEN
        RAISE EXCEPTION 'the audit log: a head was changed by another hand';
    END IF;
    INSERT INTO keyriver.log_entries (tenant, index, number, leaf, hash)
    SELECT * FROM unnest(entry_tenants, entry_indices, entry_numbers, entry_leaves, entry_hashes);
    INSERT INTO keyriver.log_nodes (tenant, level, index, hash)
    SELECT * FROM unnest(node_tenants, node_levels, node_indices, node_hashes);
    RETURN true;
END
$$;

CREATE FUNCTION keyriver.store_checkpoints_v1(
    held bigint, tenants text[], sizes bigint[], fleets text[], roots bytea[], times bigint[], previous bigint[],
    proofs bytea[], signatures bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT keyriver.sequencer_holds_v1(held) THEN
        RETURN false;
    END IF;
    INSERT INTO keyriver.checkpoints (tenant, size, fleet, root, time_ms, previous_size, consistency, signature)
    SELECT * FROM unnest(tenants, sizes, fleets, roots, times, previous, proofs, signatures);
    UPDATE keyriver.logs AS l SET signed = c.size, grown = now()
    FROM unnest(tenants, sizes) AS c (tenant, size)
    WHERE l.tenant = c.tenant;
    RETURN true;
END
$$;

-- migrate:down

DROP FUNCTION keyriver.store_checkpoints_v1;
DROP FUNCTION keyriver.append_v1;
DROP FUNCTION keyriver.sequencer_holds_v1;
DROP TRIGGER queue_leaves ON keyriver.leaves;
DROP FUNCTION keyriver.queue_leaves_v1;
DROP TABLE
    keyriver.unsequenced, keyriver.logs, keyriver.log_entries, keyriver.log_nodes, keyriver.checkpoints,
    keyriver.sequencer;
