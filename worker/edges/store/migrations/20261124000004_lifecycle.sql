-- migrate:up

-- Columns that came later are NULL where they still have the model's default, as in every row that an older worker
-- writes: rows of old and new workers stand side by side, and their MACs hold.
ALTER TABLE keyriver.keys ADD COLUMN disabled_revision bigint;
ALTER TABLE keyriver.versions ADD COLUMN due_ms bigint, ADD COLUMN prior text, ADD COLUMN forced boolean;
CREATE INDEX versions_due ON keyriver.versions (due_ms) WHERE due_ms IS NOT NULL;

-- Commands that wait for a second officer, and what became of them (S14).
CREATE TABLE keyriver.approvals (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    operation text NOT NULL,
    body bytea NOT NULL,
    asked_by text NOT NULL,
    request text NOT NULL,
    asked_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    touched text[] NOT NULL,
    state text NOT NULL,
    decided_by text NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX approvals_of_a_tenant ON keyriver.approvals (tenant, id);
CREATE INDEX approvals_due ON keyriver.approvals (expires_ms) WHERE state = 'pending';

-- Which process carries out a duty that only one should, and until when.
CREATE TABLE keyriver.duties (
    name text PRIMARY KEY,
    holder text NOT NULL,
    until timestamptz NOT NULL
);

-- As hold_v1, approvals included: they are locked after everything else, by everybody who knows them.
CREATE FUNCTION keyriver.hold_v2(tables text[], names text[], exclusive boolean[], fresh boolean[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    revisions bigint[] := keyriver.hold_v1(tables, names, exclusive, fresh);
    one record;
    held bigint;
BEGIN
    FOR one IN
        SELECT u.name, u.exclusive, u.ord
        FROM unnest(tables, names, exclusive) WITH ORDINALITY AS u (tab, name, exclusive, ord)
        WHERE u.tab = 'approvals'
        ORDER BY u.name COLLATE "C"
    LOOP
        IF one.exclusive THEN
            SELECT t.revision INTO held FROM keyriver.approvals AS t WHERE t.id = one.name::uuid FOR UPDATE;
        ELSE
            SELECT t.revision INTO held FROM keyriver.approvals AS t WHERE t.id = one.name::uuid FOR SHARE;
        END IF;
        revisions[one.ord] := coalesce(held, 0);
    END LOOP;
    RETURN revisions;
END
$$;

-- As put_rows_v1, and then the columns and the table that it does not know.
CREATE FUNCTION keyriver.put_rows_v2(puts jsonb, dead int[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keyriver.put_rows_v1(puts, dead);

    UPDATE keyriver.keys AS t SET disabled_revision = nullif(p.disabled_revision, 0)
    FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.keys, e -> 'row') AS p
    WHERE e ->> 'table' = 'keys' AND (e ->> 'slot')::int <> ALL (dead)
        AND t.id = p.id AND t.disabled_revision IS DISTINCT FROM nullif(p.disabled_revision, 0);

    UPDATE keyriver.versions AS t SET
        due_ms = nullif(p.due_ms, 0), prior = p.prior, forced = nullif(p.forced, false)
    FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.versions, e -> 'row') AS p
    WHERE e ->> 'table' = 'versions' AND (e ->> 'slot')::int <> ALL (dead)
        AND t.key = p.key AND t.number = p.number
        AND (t.due_ms, t.prior, t.forced) IS DISTINCT FROM (nullif(p.due_ms, 0), p.prior, nullif(p.forced, false));

    INSERT INTO keyriver.approvals AS t
    SELECT p.* FROM jsonb_array_elements(puts) AS e, jsonb_populate_record(NULL::keyriver.approvals, e -> 'row') AS p
    WHERE e ->> 'table' = 'approvals' AND (e ->> 'slot')::int <> ALL (dead)
    ON CONFLICT (id) DO UPDATE SET
        tenant = excluded.tenant, operation = excluded.operation, body = excluded.body, asked_by = excluded.asked_by,
        request = excluded.request, asked_ms = excluded.asked_ms, expires_ms = excluded.expires_ms,
        touched = excluded.touched, state = excluded.state, decided_by = excluded.decided_by,
        revision = excluded.revision, mac_version = excluded.mac_version, mac = excluded.mac;
END
$$;

-- settle_v2 is settle_v1 word for word, but for the two functions above. An applied migration never changes, so this
-- always makes the same function.
DO $$
DECLARE
    text_v1 text := pg_get_functiondef('keyriver.settle_v1'::regproc);
BEGIN
    EXECUTE replace(replace(replace(text_v1, '.settle_v1', '.settle_v2'), '.hold_v1', '.hold_v2'),
        '.put_rows_v1', '.put_rows_v2');
END
$$;

-- migrate:down

DROP FUNCTION keyriver.settle_v2;
DROP FUNCTION keyriver.put_rows_v2;
DROP FUNCTION keyriver.hold_v2;
DROP TABLE keyriver.duties;
DROP TABLE keyriver.approvals;
DROP INDEX keyriver.versions_due;
ALTER TABLE keyriver.versions DROP COLUMN due_ms, DROP COLUMN prior, DROP COLUMN forced;
ALTER TABLE keyriver.keys DROP COLUMN disabled_revision;
