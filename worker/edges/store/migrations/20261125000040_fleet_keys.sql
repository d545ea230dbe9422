-- migrate:up

-- Versions of the fleet's own keys: the token objects that rotations made (S5). Before the first rotation of a kind
-- there is its version 1, and no row.
CREATE TABLE keyriver.fleet_keys (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    number int NOT NULL,
    state text NOT NULL,
    since_ms bigint NOT NULL,
    revision bigint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    public_key bytea,
    predecessor bytea,
    by_predecessor bytea,
    by_itself bytea,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);

-- How many rows of these tables have a MAC of each version.
CREATE FUNCTION keyriver.mac_versions_v1(tables text[])
RETURNS TABLE (version int, found bigint) STABLE LANGUAGE plpgsql AS $$
DECLARE
    each_of text;
BEGIN
    SELECT string_agg(format('SELECT t.mac_version FROM keyriver.%I AS t', u.tab), ' UNION ALL ')
    INTO each_of FROM unnest(tables) AS u (tab);
    RETURN QUERY EXECUTE format('SELECT a.mac_version, count(*) FROM (%s) AS a GROUP BY 1', each_of);
END
$$;

-- A table's rows whose MAC is older than the newest version, as JSON, in the order of the primary key after the given
-- row: a walk over the table, a bounded piece at a time.
CREATE FUNCTION keyriver.older_macs_v1(tab text, after jsonb, newest int, at_most int)
RETURNS SETOF jsonb STABLE LANGUAGE plpgsql AS $$
DECLARE
    key text;
    key_of_after text;
BEGIN
    SELECT string_agg('t.' || quote_ident(a.attname), ', ' ORDER BY array_position(i.indkey::int2[], a.attnum)),
        string_agg('p.' || quote_ident(a.attname), ', ' ORDER BY array_position(i.indkey::int2[], a.attnum))
    INTO key, key_of_after
    FROM pg_index AS i
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = format('keyriver.%I', tab)::regclass AND i.indisprimary;
    RETURN QUERY EXECUTE format(
        'SELECT to_jsonb(t) FROM keyriver.%1$I AS t
         WHERE t.mac_version < $2 AND ($1 IS NULL OR (%2$s) >
            (SELECT %3$s FROM jsonb_populate_record(NULL::keyriver.%1$I, $1) AS p))
         ORDER BY %2$s LIMIT $3', tab, key, key_of_after)
    USING after, newest, at_most;
END
$$;

-- Give one row another MAC if it still is the one that was read. Its revision stays: nothing that rests on it moves.
CREATE FUNCTION keyriver.renew_mac_v1(tab text, was jsonb, new_version int, new_mac bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    same text;
    changed int;
BEGIN
    SELECT string_agg(format('t.%1$I = p.%1$I', a.attname), ' AND ') INTO same
    FROM pg_index AS i
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = format('keyriver.%I', tab)::regclass AND i.indisprimary;
    EXECUTE format(
        'UPDATE keyriver.%1$I AS t SET mac_version = $2, mac = $3
         FROM jsonb_populate_record(NULL::keyriver.%1$I, $1) AS p
         WHERE %2$s AND t.revision = p.revision AND t.mac_version = p.mac_version AND t.mac = p.mac', tab, same)
    USING was, new_version, new_mac;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = 1;
END
$$;

-- migrate:down

DROP FUNCTION keyriver.renew_mac_v1;
DROP FUNCTION keyriver.older_macs_v1;
DROP FUNCTION keyriver.mac_versions_v1;
DROP TABLE keyriver.fleet_keys;
