-- migrate:up

-- From here on a table whose rows carry a MAC needs no function of its own. Its primary key is the column `id`; the six
-- tables that every request touches keep their static statements. The names of tables come from workers, never from callers.

-- The rows of the other tables that are named, each as JSON. STABLE: they are of the same moment as the rest of `know`.
CREATE FUNCTION keyriver.rows_v1(tables text[], names text[])
RETURNS TABLE (kind text, doc jsonb) STABLE LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT u.tab, u.name FROM unnest(tables, names) AS u (tab, name) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %1$L::text, to_jsonb(t) FROM keyriver.%1$I AS t
             WHERE t.id = (jsonb_populate_record(NULL::keyriver.%1$I, $1)).id', one.tab)
        USING jsonb_build_object('id', one.name);
    END LOOP;
END
$$;

-- A page of such a table: the names after the given one, in their order; of every tenant where none is named.
CREATE FUNCTION keyriver.page_v1(tab text, of_tenant text, after text, at_most int)
RETURNS TABLE (name text) STABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT t.id::text FROM keyriver.%1$I AS t
         WHERE ($1 = '''' OR t.tenant = $1) %2$s
         ORDER BY t.id LIMIT $3',
        tab,
        CASE WHEN after <> '' THEN format('AND t.id > (jsonb_populate_record(NULL::keyriver.%1$I, $2)).id', tab) ELSE '' END)
    USING of_tenant, jsonb_build_object('id', after), at_most;
EXCEPTION
    WHEN invalid_text_representation THEN  -- no id at all: nothing comes after it
        RETURN;
END
$$;

-- As hold_v2, and after the six tables any other, by table and name.
CREATE FUNCTION keyriver.hold_v3(tables text[], names text[], exclusive boolean[], fresh boolean[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    revisions bigint[] := keyriver.hold_v1(tables, names, exclusive, fresh);
    one record;
    held bigint;
BEGIN
    FOR one IN
        SELECT u.tab, u.name, u.exclusive, u.ord
        FROM unnest(tables, names, exclusive) WITH ORDINALITY AS u (tab, name, exclusive, ord)
        WHERE u.tab NOT IN ('tenants', 'keys', 'versions', 'aliases', 'clients', 'intake_keys')
        ORDER BY u.tab COLLATE "C", u.name COLLATE "C"
    LOOP
        EXECUTE format(
            'SELECT t.revision FROM keyriver.%1$I AS t
             WHERE t.id = (jsonb_populate_record(NULL::keyriver.%1$I, $1)).id FOR %2$s',
            one.tab, CASE WHEN one.exclusive THEN 'UPDATE' ELSE 'SHARE' END)
        INTO held USING jsonb_build_object('id', one.name);
        revisions[one.ord] := coalesce(held, 0);
    END LOOP;
    RETURN revisions;
END
$$;

-- Insert rows of revision 1 and replace later ones, of any table. Every row was claimed or locked and its revision compared.
CREATE FUNCTION keyriver.put_rows_v3(puts jsonb, dead int[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT
            e.tab,
            string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE a.attnum = ANY (i.indkey)) AS key,
            string_agg(format('%1$I = excluded.%1$I', a.attname), ', ') FILTER (WHERE a.attnum <> ALL (i.indkey)) AS others
        FROM (SELECT DISTINCT p ->> 'table' AS tab FROM jsonb_array_elements(puts) AS p) AS e
        JOIN pg_index AS i ON i.indrelid = format('keyriver.%I', e.tab)::regclass AND i.indisprimary
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY e.tab
        ORDER BY e.tab
    LOOP
        EXECUTE format(
            'INSERT INTO keyriver.%1$I
             SELECT p.* FROM jsonb_array_elements($1) AS e, jsonb_populate_record(NULL::keyriver.%1$I, e -> ''row'') AS p
             WHERE e ->> ''table'' = %1$L AND (e ->> ''slot'')::int <> ALL ($2)
             ON CONFLICT (%2$s) DO UPDATE SET %3$s', one.tab, one.key, one.others)
        USING puts, dead;
    END LOOP;
END
$$;

-- settle_v3 is settle_v2 word for word, but for the two functions above.
DO $$
DECLARE
    text_v2 text := pg_get_functiondef('keyriver.settle_v2'::regproc);
BEGIN
    EXECUTE replace(replace(replace(text_v2, '.settle_v2', '.settle_v3'), '.hold_v2', '.hold_v3'),
        '.put_rows_v2', '.put_rows_v3');
END
$$;

-- migrate:down

DROP FUNCTION keyriver.settle_v3;
DROP FUNCTION keyriver.put_rows_v3;
DROP FUNCTION keyriver.hold_v3;
DROP FUNCTION keyriver.page_v1;
DROP FUNCTION keyriver.rows_v1;
