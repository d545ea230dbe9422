-- migrate:up

-- What allows besides the clients' own rows, and what bounds them. Read by client in `know`: only what is in force, so
-- the index holds no more than that. Hiding a row only denies; that a quota vanished is seen by its sequence (S7).

CREATE TABLE keyriver.rules (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    client text NOT NULL,
    permissions text[] NOT NULL,
    pattern text NOT NULL,
    region text NOT NULL,
    not_after_ms bigint NOT NULL,
    context_keys text[] NOT NULL,
    minimum_suite text,
    why text NOT NULL,
    enrolled_by text NOT NULL,
    created_ms bigint NOT NULL,
    revoked boolean NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX rules_in_force ON keyriver.rules (client, not_after_ms) WHERE NOT revoked;
CREATE INDEX rules_of_tenant ON keyriver.rules (tenant, id);

CREATE TABLE keyriver.grants (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    client text NOT NULL,
    key uuid NOT NULL,
    version int NOT NULL,
    permissions text[] NOT NULL,
    why text NOT NULL,
    given_by text NOT NULL,
    given_ms bigint NOT NULL,
    not_after_ms bigint NOT NULL,
    revoked boolean NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX grants_in_force ON keyriver.grants (client, not_after_ms) WHERE NOT revoked;
CREATE INDEX grants_of_tenant ON keyriver.grants (tenant, id);

CREATE TABLE keyriver.quotas (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    client text NOT NULL,
    per_second bigint NOT NULL,
    burst bigint NOT NULL,
    why text NOT NULL,
    set_by text NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX quotas_of_tenant ON keyriver.quotas (tenant, id);

-- How far each quota is spent: everything before `spent` is paid for. Lost in a crash, which only refills it.
CREATE UNLOGGED TABLE keyriver.quota_levels (
    id text PRIMARY KEY,
    spent timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Lease of token buckets that the database's clock refills (D10), in the order of their names. If there is anything,
-- the next request gets what it costs, whole, and the bucket is in debt until that is refilled; so no request is too large.
CREATE FUNCTION keyriver.take_quota_v1(names text[], rates bigint[], bursts bigint[], needs bigint[], wants bigint[])
RETURNS TABLE (ord bigint, granted bigint, wait_ms bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    level timestamptz;
    instant timestamptz;
    there double precision;
BEGIN
    FOR one IN
        SELECT u.* FROM unnest(names, rates, bursts, needs, wants) WITH ORDINALITY AS u (name, rate, burst, need, want, ord)
        ORDER BY u.name COLLATE "C"
    LOOP
        INSERT INTO keyriver.quota_levels AS l (id, spent) VALUES (one.name, '-infinity') ON CONFLICT DO NOTHING;
        SELECT l.spent INTO level FROM keyriver.quota_levels AS l WHERE l.id = one.name FOR UPDATE;
        instant := clock_timestamp();
        level := greatest(level, instant - make_interval(secs => one.burst::double precision / one.rate));
        there := extract(EPOCH FROM instant - level) * one.rate;
        ord := one.ord;
        granted := CASE WHEN there < 1 THEN 0 ELSE greatest(least(one.want, floor(there)::bigint), one.need) END;
        there := there - granted;
        wait_ms := CASE WHEN there < 1 THEN ceil((1 - there) * 1000 / one.rate) ELSE 0 END;
        UPDATE keyriver.quota_levels AS l
        SET spent = level + make_interval(secs => granted::double precision / one.rate)
        WHERE l.id = one.name;
        RETURN NEXT;
    END LOOP;
END
$$;

-- migrate:down

DROP FUNCTION keyriver.take_quota_v1;
DROP TABLE keyriver.quota_levels;
DROP TABLE keyriver.quotas;
DROP TABLE keyriver.grants;
DROP TABLE keyriver.rules;
