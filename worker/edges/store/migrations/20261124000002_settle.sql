-- migrate:up

-- One request of a batch in the ledger. `opened`: fill the row that was seen with the outcomes `seen`, not a new one.
CREATE TYPE keyriver.entry_v1 AS (
    slot int,
    opened boolean,
    seen bytea[],
    tenant text,
    client text,
    source text,
    id text,
    operation text,
    digest bytea,
    outcomes bytea[]
);

-- Lock rows in one order for everybody (table, then key), each with the strength it needs, so that no lock is ever
-- upgraded and no two batches wait for each other. Returns the revision of each, 0 for a row that is not there.
-- Rows that are to be inserted are claimed first: the second claimant waits here, not in a unique index.
CREATE FUNCTION keyriver.hold_v1(tables text[], names text[], exclusive boolean[], fresh boolean[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    IF true = ANY (fresh) THEN
        PERFORM pg_advisory_xact_lock(c.claim)
        FROM (
            SELECT hashtextextended('keyriver ' || r.tab || ' ' || r.name, 0) AS claim
            FROM unnest(tables, names, fresh) AS r (tab, name, fresh)
            WHERE r.fresh
            ORDER BY 1
        ) AS c;
    END IF;
    RETURN (
        SELECT array_agg(coalesce(held.revision, 0) ORDER BY r.ord)
        FROM (
            SELECT u.*,
                CASE WHEN u.tab IN ('keys', 'versions') THEN split_part(u.name, '/', 1)::uuid END AS uid,
                CASE WHEN u.tab = 'versions' THEN split_part(u.name, '/', 2)::int END AS number,
                CASE WHEN u.tab = 'intake_keys' THEN u.name::bigint END AS sequence
            FROM unnest(tables, names, exclusive) WITH ORDINALITY AS u (tab, name, exclusive, ord)
            ORDER BY u.tab COLLATE "C", u.name COLLATE "C"
        ) AS r
        LEFT JOIN LATERAL (
            SELECT * FROM (SELECT t.revision FROM keyriver.tenants AS t
                WHERE r.tab = 'tenants' AND NOT r.exclusive AND t.id = r.name FOR SHARE) AS a1
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.tenants AS t
                WHERE r.tab = 'tenants' AND r.exclusive AND t.id = r.name FOR UPDATE) AS a2
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.keys AS t
                WHERE r.tab = 'keys' AND NOT r.exclusive AND t.id = r.uid FOR SHARE) AS a3
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.keys AS t
                WHERE r.tab = 'keys' AND r.exclusive AND t.id = r.uid FOR UPDATE) AS a4
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.versions AS t
                WHERE r.tab = 'versions' AND NOT r.exclusive AND t.key = r.uid AND t.number = r.number FOR SHARE) AS a5
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.versions AS t
                WHERE r.tab = 'versions' AND r.exclusive AND t.key = r.uid AND t.number = r.number FOR UPDATE) AS a6
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.aliases AS t
                WHERE r.tab = 'aliases' AND NOT r.exclusive AND t.name = r.name FOR SHARE) AS a7
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.aliases AS t
                WHERE r.tab = 'aliases' AND r.exclusive AND t.name = r.name FOR UPDATE) AS a8
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.clients AS t
                WHERE r.tab = 'clients' AND NOT r.exclusive AND t.id = r.name FOR SHARE) AS a9
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.clients AS t
                WHERE r.tab = 'clients' AND r.exclusive AND t.id = r.name FOR UPDATE) AS a10
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.intake_keys AS t
                WHERE r.tab = 'intake_keys' AND NOT r.exclusive AND t.sequence = r.sequence FOR SHARE) AS a11
            UNION ALL
            SELECT * FROM (SELECT t.revision FROM keyriver.intake_keys AS t
                WHERE r.tab = 'intake_keys' AND r.exclusive AND t.sequence = r.sequence FOR UPDATE) AS a12
        ) AS held ON true
    );
END
$$;

-- Insert rows of revision 1 and replace later ones. Every row was claimed or locked and its revision compared.
CREATE FUNCTION keyriver.put_rows_v1(puts jsonb, dead int[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keyriver.tenants AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.tenants, e -> 'row') AS p
    WHERE e ->> 'table' = 'tenants' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (id) DO UPDATE SET
        layers = excluded.layers, minimum_suite = excluded.minimum_suite, enabled = excluded.enabled,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;

    INSERT INTO keyriver.keys AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.keys, e -> 'row') AS p
    WHERE e ->> 'table' = 'keys' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (id) DO UPDATE SET
        tenant = excluded.tenant, parent = excluded.parent, layer = excluded.layer, purpose = excluded.purpose,
        origin = excluded.origin, region = excluded.region, enabled = excluded.enabled,
        active_version = excluded.active_version, latest_version = excluded.latest_version,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;

    INSERT INTO keyriver.versions AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.versions, e -> 'row') AS p
    WHERE e ->> 'table' = 'versions' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (key, number) DO UPDATE SET
        state = excluded.state, wrapping = excluded.wrapping, wrapped = excluded.wrapped,
        parent_version = excluded.parent_version, material = excluded.material, serial = excluded.serial,
        created_ms = excluded.created_ms,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;

    INSERT INTO keyriver.aliases AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.aliases, e -> 'row') AS p
    WHERE e ->> 'table' = 'aliases' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (name) DO UPDATE SET
        tenant = excluded.tenant, key = excluded.key,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;

    INSERT INTO keyriver.clients AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.clients, e -> 'row') AS p
    WHERE e ->> 'table' = 'clients' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (id) DO UPDATE SET
        tenant = excluded.tenant, role = excluded.role, algorithm = excluded.algorithm,
        public_key = excluded.public_key, permissions = excluded.permissions, pattern = excluded.pattern,
        reply_topics = excluded.reply_topics, recipient_suite = excluded.recipient_suite,
        recipient_key = excluded.recipient_key, not_after_ms = excluded.not_after_ms, revoked = excluded.revoked,
        enrolled_by = excluded.enrolled_by,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;

    INSERT INTO keyriver.intake_keys AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.intake_keys, e -> 'row') AS p
    WHERE e ->> 'table' = 'intake_keys' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (sequence) DO UPDATE SET
        suite = excluded.suite, public_key = excluded.public_key, wrapped_private = excluded.wrapped_private,
        not_before_ms = excluded.not_before_ms, not_after_ms = excluded.not_after_ms,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;
END
$$;

-- Settle a batch (DELIVERY D2): one statement, hence one transaction and one round trip. A request is named by its
-- slot; returned are only those that were not settled: `stored` is the entry of the winner, NULL says "moved".
-- Locks are taken in one order by everybody: ledger, claims, rows, DEKs, outbox.
CREATE FUNCTION keyriver.settle_v1(
    entries keyriver.entry_v1[],
    ref_tables text[], ref_names text[], ref_exclusive boolean[], ref_fresh boolean[],
    expect_slots int[], expect_refs int[], expect_revisions bigint[],
    dek_slots int[], dek_ids uuid[], dek_keys uuid[], dek_versions int[], dek_blobs bytea[],
    move_slots int[], move_ids uuid[], move_keys uuid[], move_versions int[], move_blobs bytea[], move_olds bytea[],
    puts jsonb,
    count_slots int[], count_keys uuid[], count_versions int[], count_stored bigint[], count_outside bigint[],
    leaf_slots int[], leaf_ids uuid[], leaf_tenants text[], leaf_bodies bytea[],
    event_slots int[], event_ids uuid[], event_types text[], event_tenants text[], event_bodies bytea[]
) RETURNS TABLE (slot int, stored keyriver.entry_v1) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    lost int[] := '{}';  -- another delivery was first
    moved int[] := '{}';  -- what the decision rested on has changed
    dead int[];  -- both: nothing of these is written
    written int;
    revisions bigint[];
    undone keyriver.entry_v1;
BEGIN
    -- (a) the ledger: new entries, then those to be filled further
    INSERT INTO keyriver.ledger (tenant, client, source, id, operation, digest, outcomes)
    SELECT e.tenant, e.client, e.source, e.id, e.operation, e.digest, e.outcomes
    FROM unnest(entries) AS e
    WHERE NOT e.opened
    ORDER BY e.tenant COLLATE "C", e.client COLLATE "C", e.source COLLATE "C", e.id COLLATE "C"
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < cardinality(entries) THEN
        SELECT coalesce(array_agg(e.slot), '{}') INTO lost
        FROM unnest(entries) AS e
        LEFT JOIN LATERAL (
            SELECT k.xmin FROM keyriver.ledger AS k
            WHERE k.tenant = e.tenant AND k.client = e.client AND k.source = e.source AND k.id = e.id
            OFFSET 0
        ) AS l ON true
        WHERE NOT e.opened AND l.xmin IS DISTINCT FROM pg_current_xact_id()::xid;  -- not the row of this transaction
        SELECT lost || coalesce(array_agg(e.slot) FILTER (WHERE l.outcomes IS DISTINCT FROM e.seen), '{}') INTO lost
        FROM (
            SELECT * FROM unnest(entries) AS o WHERE o.opened
            ORDER BY o.tenant COLLATE "C", o.client COLLATE "C", o.source COLLATE "C", o.id COLLATE "C"
        ) AS e
        LEFT JOIN LATERAL (
            SELECT k.outcomes FROM keyriver.ledger AS k
            WHERE k.tenant = e.tenant AND k.client = e.client AND k.source = e.source AND k.id = e.id
            FOR UPDATE
        ) AS l ON true;
    END IF;

    -- (b) the rows that the decisions rested on
    IF cardinality(ref_names) > 0 THEN
        revisions := keyriver.hold_v1(ref_tables, ref_names, ref_exclusive, ref_fresh);
        SELECT coalesce(array_agg(DISTINCT x.slot), '{}') INTO moved
        FROM unnest(expect_slots, expect_refs, expect_revisions) AS x (slot, ref, revision)
        WHERE x.revision IS DISTINCT FROM revisions[x.ref];
    END IF;
    IF cardinality(move_ids) > 0 THEN
        SELECT moved || coalesce(array_agg(DISTINCT m.slot), '{}') INTO moved
        FROM (
            SELECT * FROM unnest(move_slots, move_ids, move_olds) AS u (slot, id, old) ORDER BY u.id
        ) AS m
        LEFT JOIN LATERAL (SELECT d.blob FROM keyriver.deks AS d WHERE d.id = m.id FOR UPDATE) AS held ON true
        WHERE held.blob IS DISTINCT FROM m.old;
    END IF;
    dead := lost || moved;
    IF moved <> '{}' THEN
        FOR undone IN
            SELECT * FROM unnest(entries) AS e WHERE NOT e.opened AND e.slot = ANY (moved) AND e.slot <> ALL (lost)
        LOOP
            DELETE FROM keyriver.ledger AS l
            WHERE l.tenant = undone.tenant AND l.client = undone.client
                AND l.source = undone.source AND l.id = undone.id;
        END LOOP;
    END IF;

    -- (c) rows. What is replaced is there and locked by now; an upsert finds it by its unique index, whatever the plan.
    IF written < cardinality(entries) THEN
        INSERT INTO keyriver.ledger AS l (tenant, client, source, id, operation, digest, outcomes)
        SELECT e.tenant, e.client, e.source, e.id, e.operation, e.digest, e.outcomes
        FROM unnest(entries) AS e
        WHERE e.opened AND e.slot <> ALL (dead)
        ON CONFLICT (tenant, client, source, id) DO UPDATE SET outcomes = excluded.outcomes;
    END IF;
    INSERT INTO keyriver.deks (id, key, version, blob)
    SELECT d.id, d.key, d.version, d.blob
    FROM unnest(dek_slots, dek_ids, dek_keys, dek_versions, dek_blobs) AS d (slot, id, key, version, blob)
    WHERE d.slot <> ALL (dead);
    IF cardinality(move_ids) > 0 THEN
        INSERT INTO keyriver.deks AS d (id, key, version, blob)
        SELECT DISTINCT ON (m.id) m.id, m.key, m.version, m.blob  -- a request may name one DEK twice: the last one stays
        FROM unnest(move_slots, move_ids, move_keys, move_versions, move_blobs)
            WITH ORDINALITY AS m (slot, id, key, version, blob, ord)
        WHERE m.slot <> ALL (dead)
        ORDER BY m.id, m.ord DESC
        ON CONFLICT (id) DO UPDATE SET key = excluded.key, version = excluded.version, blob = excluded.blob;
    END IF;
    IF puts IS NOT NULL THEN
        PERFORM keyriver.put_rows_v1(puts, dead);
    END IF;

    -- (d) counter deltas
    INSERT INTO keyriver.census (key, version, stored, issued_outside)
    SELECT c.key, c.version, sum(c.stored), sum(c.outside)
    FROM unnest(count_slots, count_keys, count_versions, count_stored, count_outside)
        AS c (slot, key, version, stored, outside)
    WHERE c.slot <> ALL (dead)
    GROUP BY c.key, c.version;

    -- (e) audit leaves, and facts without a record
    INSERT INTO keyriver.leaves (id, tenant, body)
    SELECT f.id, f.tenant, f.body
    FROM unnest(leaf_slots, leaf_ids, leaf_tenants, leaf_bodies) AS f (slot, id, tenant, body)
    WHERE f.slot <> ALL (dead);
    IF cardinality(event_ids) > 0 THEN
        INSERT INTO keyriver.outbox (id, type, tenant, body)
        SELECT v.id, v.type, v.tenant, v.body
        FROM unnest(event_slots, event_ids, event_types, event_tenants, event_bodies) AS v (slot, id, type, tenant, body)
        WHERE v.slot <> ALL (dead)
        ORDER BY v.id
        ON CONFLICT DO NOTHING;
    END IF;

    IF dead <> '{}' THEN
        RETURN QUERY
        SELECT d.slot, CASE WHEN l.id IS NOT NULL THEN
            ROW(d.slot, NULL, NULL, l.tenant, l.client, l.source, l.id, l.operation, l.digest, l.outcomes)::keyriver.entry_v1
            END
        FROM (SELECT DISTINCT u.slot FROM unnest(dead) AS u (slot)) AS d
        LEFT JOIN unnest(entries) AS e ON e.slot = d.slot AND d.slot = ANY (lost)
        LEFT JOIN LATERAL (
            SELECT * FROM keyriver.ledger AS k
            WHERE k.tenant = e.tenant AND k.client = e.client AND k.source = e.source AND k.id = e.id
            OFFSET 0
        ) AS l ON true;
    END IF;
END
$$;

-- Delete ledger entries older than the window, oldest first, at most so many; what a settle holds is left for later.
CREATE FUNCTION keyriver.prune_ledger_v1(past interval, at_most int)
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    old record;
    gone int := 0;
BEGIN
    FOR old IN
        SELECT l.tenant, l.client, l.source, l.id FROM keyriver.ledger AS l
        WHERE l.at < now() - past
        ORDER BY l.at LIMIT at_most
        FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM keyriver.ledger AS l
        WHERE l.tenant = old.tenant AND l.client = old.client AND l.source = old.source AND l.id = old.id;
        gone := gone + 1;
    END LOOP;
    RETURN gone;
END
$$;

-- migrate:down

DROP FUNCTION keyriver.prune_ledger_v1;
DROP FUNCTION keyriver.settle_v1;
DROP FUNCTION keyriver.put_rows_v1;
DROP FUNCTION keyriver.hold_v1;
DROP TYPE keyriver.entry_v1;
