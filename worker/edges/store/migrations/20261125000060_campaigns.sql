-- migrate:up

-- When a campaign saw, under the row's lock, that nothing stored is left under the version.
ALTER TABLE keyriver.versions ADD COLUMN retired_ms bigint;

CREATE TABLE keyriver.campaigns (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    key uuid NOT NULL,
    from_version int NOT NULL,
    to_version int NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    parent uuid,
    compromised boolean NOT NULL,
    items bigint NOT NULL,
    items_s int NOT NULL,
    hsm_share int NOT NULL,
    round int NOT NULL,
    after uuid NOT NULL,
    upto uuid NOT NULL,
    asked_by text NOT NULL,
    why text NOT NULL,
    created_ms bigint NOT NULL,
    started_ms bigint NOT NULL,
    ended_ms bigint NOT NULL,
    certificate bytea NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX campaigns_of_a_tenant ON keyriver.campaigns (tenant, id);
CREATE INDEX campaigns_at_work ON keyriver.campaigns (id) WHERE state IN ('running', 'verifying');
CREATE INDEX campaigns_of_a_campaign ON keyriver.campaigns (parent) WHERE parent IS NOT NULL;

-- What follows carries no MAC: it only saves work. Whatever stands here, rows move by what they are themselves.

-- How far a campaign's round is carved into slices, and when the throttle lets the next one go.
CREATE TABLE keyriver.campaign_rounds (
    campaign uuid NOT NULL,
    round int NOT NULL,
    after uuid NOT NULL,
    upto uuid NOT NULL,
    carved int NOT NULL,
    over boolean NOT NULL,
    next_at timestamptz NOT NULL,
    PRIMARY KEY (campaign, round)
) WITH (fillfactor = 50);

-- Ranges of ids, leased: whoever holds the epoch may finish one. `exposed`: DEKs that somebody had who had the key.
CREATE TABLE keyriver.campaign_slices (
    campaign uuid NOT NULL,
    round int NOT NULL,
    number int NOT NULL,
    after uuid NOT NULL,
    upto uuid NOT NULL,
    holder text NOT NULL,
    epoch int NOT NULL,
    leased_at timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    done_at timestamptz,
    items int NOT NULL DEFAULT 0,
    digest bytea NOT NULL DEFAULT '',
    exposed uuid[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (campaign, round, number)
);
CREATE INDEX campaign_slices_open ON keyriver.campaign_slices (campaign, round, number) WHERE done_at IS NULL;
CREATE INDEX campaign_slices_done ON keyriver.campaign_slices (done_at) WHERE done_at IS NOT NULL;

-- What could not be moved, as of the last look at it.
CREATE TABLE keyriver.campaign_failures (
    campaign uuid NOT NULL,
    item text COLLATE "C" NOT NULL,
    code text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign, item)
);

-- A slice for this holder: one whose lease ran out, else the next one of the round, carved by one probe of an index.
-- All leases of a round go through its row. `wait`: the throttle, or others are at work still; `over`: all are done.
CREATE FUNCTION keyriver.lease_slice_v1(
    of_campaign uuid, of_round int, of_key uuid, of_deks boolean, first uuid, last uuid,
    by_holder text, seconds double precision, size int, items_s int
) RETURNS TABLE (leased text, number int, after uuid, upto uuid, epoch int)
LANGUAGE plpgsql SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    turn keyriver.campaign_rounds;
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    boundary uuid;
    taken boolean;
BEGIN
    INSERT INTO keyriver.campaign_rounds (campaign, round, after, upto, carved, over, next_at)
    VALUES (of_campaign, of_round, first, last, 0, false, clock_timestamp())
    ON CONFLICT DO NOTHING;
    SELECT * INTO turn FROM keyriver.campaign_rounds AS r
    WHERE r.campaign = of_campaign AND r.round = of_round FOR UPDATE;
    IF items_s > 0 AND turn.next_at > clock_timestamp() THEN
        RETURN QUERY SELECT 'wait', 0, first, last, 0;
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE keyriver.campaign_slices AS s
    SET holder = by_holder, epoch = s.epoch + 1, leased_at = clock_timestamp(), expires = until
    WHERE s.campaign = of_campaign AND s.round = of_round AND s.done_at IS NULL AND s.expires < clock_timestamp()
        AND s.number = (
            SELECT o.number FROM keyriver.campaign_slices AS o
            WHERE o.campaign = of_campaign AND o.round = of_round
                AND o.done_at IS NULL AND o.expires < clock_timestamp()
            ORDER BY o.number LIMIT 1
        )
    RETURNING 'slice', s.number, s.after, s.upto, s.epoch;
    taken := FOUND;
    IF NOT taken AND turn.over THEN
        RETURN QUERY
        SELECT CASE WHEN EXISTS (
            SELECT FROM keyriver.campaign_slices AS o
            WHERE o.campaign = of_campaign AND o.round = of_round AND o.done_at IS NULL
        ) THEN 'wait' ELSE 'over' END, 0, first, last, 0;
        RETURN;
    END IF;
    IF NOT taken THEN
        IF of_deks THEN
            SELECT t.id INTO boundary FROM keyriver.deks AS t
            WHERE (t.key, t.id) > (of_key, turn.after) AND (t.key, t.id) <= (of_key, turn.upto)
            ORDER BY t.key, t.id OFFSET size - 1 LIMIT 1;
        ELSE
            SELECT t.id INTO boundary FROM keyriver.keys AS t
            WHERE t.parent = of_key AND t.id > turn.after AND t.id <= turn.upto
            ORDER BY t.id OFFSET size - 1 LIMIT 1;
        END IF;
        turn.over := boundary IS NULL;
        INSERT INTO keyriver.campaign_slices
            (campaign, round, number, after, upto, holder, epoch, leased_at, expires)
        VALUES (of_campaign, of_round, turn.carved, turn.after, coalesce(boundary, turn.upto), by_holder, 1,
            clock_timestamp(), until);
        RETURN QUERY SELECT 'slice', turn.carved, turn.after, coalesce(boundary, turn.upto), 1;
        turn.carved := turn.carved + 1;
        turn.after := coalesce(boundary, turn.upto);
    END IF;
    UPDATE keyriver.campaign_rounds AS r SET
        after = turn.after, carved = turn.carved, over = turn.over,
        next_at = greatest(turn.next_at, clock_timestamp() - interval '1 second')
            + make_interval(secs => CASE WHEN items_s > 0 THEN size / items_s::double precision ELSE 0 END)
    WHERE r.campaign = of_campaign AND r.round = of_round;
END
$$;

-- Replace blobs that are still those that were read; returns how many were. Ids come in order, so rows are locked in the
-- order in which `settle` locks them. The list drives, whatever the statistics say.
CREATE FUNCTION keyriver.move_deks_v1(to_version int, ids uuid[], olds bytea[], blobs bytea[])
RETURNS int LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    moved int;
BEGIN
    UPDATE keyriver.deks AS d SET version = to_version, blob = m.blob
    FROM unnest(ids, olds, blobs) AS m (id, old, blob)
    WHERE d.id = m.id AND d.blob = m.old;
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END
$$;

-- A slice of a campaign is done, where its lease still holds: whatever was listed of its range is as of this look.
CREATE FUNCTION keyriver.finish_slice_v1(
    of_campaign uuid, of_round int, of_number int, of_epoch int, moved int, sum bytea, lost uuid[],
    first uuid, last uuid, failed text[], codes text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keyriver.campaign_slices AS s SET done_at = clock_timestamp(), items = moved, digest = sum, exposed = lost
    WHERE s.campaign = of_campaign AND s.round = of_round AND s.number = of_number
        AND s.epoch = of_epoch AND s.done_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM keyriver.campaign_failures AS f  -- an item is an id, or an id and a version's number
    WHERE f.campaign = of_campaign AND f.item > first::text || '/~' AND f.item <= last::text || '/~';
    INSERT INTO keyriver.campaign_failures (campaign, item, code)
    SELECT of_campaign, n.item, n.code FROM unnest(failed, codes) AS n (item, code)
    ON CONFLICT (campaign, item) DO UPDATE SET code = excluded.code, at = now();
    RETURN true;
END
$$;

-- Whether nothing is left under a version, after its row was locked: no DEK by the census, and no version of a key below
-- (or only retired ones).
CREATE FUNCTION keyriver.vacant_v1(of_key uuid, of_version int, retired_only boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN coalesce(
        (SELECT sum(c.stored) FROM keyriver.census AS c WHERE c.key = of_key AND c.version = of_version), 0
    ) = 0
    AND NOT EXISTS (
        SELECT FROM keyriver.keys AS k
        CROSS JOIN LATERAL (
            SELECT w.state, w.parent_version, w.retired_ms FROM keyriver.versions AS w WHERE w.key = k.id OFFSET 0
        ) AS v
        WHERE k.parent = of_key AND v.parent_version = of_version AND v.state <> 'destroyed'
            AND NOT (retired_only AND coalesce(v.retired_ms, 0) > 0)
    );
END
$$;

-- Settle one settlement in a transaction of its own: settle_v3 with its locks first, then what rests on them, or nothing
-- at all (KR001). One statement, so that a worker that stands still never holds a lock. Its first arguments are settle_v3's.
DO $$
DECLARE
    arguments text := pg_get_function_arguments('keyriver.settle_v3'::regproc);
    names text := (
        SELECT string_agg(quote_ident(a.name), ', ' ORDER BY a.ord)
        FROM pg_proc AS p, unnest(p.proargnames) WITH ORDINALITY AS a (name, ord)
        WHERE p.oid = 'keyriver.settle_v3'::regproc AND a.ord <= p.pronargs
    );
BEGIN
    EXECUTE format($make$
        CREATE FUNCTION keyriver.settle_alone_v1(
            %1$s,
            to_version int, ids uuid[], olds bytea[], blobs bytea[],
            of_campaign uuid, of_round int, of_number int, of_epoch int, moved int, sum bytea, lost uuid[],
            first uuid, last uuid, failed text[], codes text[],
            vacant_key uuid, vacant_version int, retired_only boolean
        ) RETURNS boolean LANGUAGE plpgsql AS $body$
        BEGIN
            IF EXISTS (SELECT FROM keyriver.settle_v3(%2$s)) THEN
                RETURN false;
            END IF;
            IF cardinality(ids) > 0
                AND keyriver.move_deks_v1(to_version, ids, olds, blobs) <> cardinality(ids)
            OR of_campaign IS NOT NULL AND NOT keyriver.finish_slice_v1(
                of_campaign, of_round, of_number, of_epoch, moved, sum, lost, first, last, failed, codes)
            OR vacant_key IS NOT NULL AND NOT keyriver.vacant_v1(vacant_key, vacant_version, retired_only) THEN
                RAISE EXCEPTION 'moved' USING ERRCODE = 'KR001';
            END IF;
            RETURN true;
        END
        $body$
    $make$, arguments, names);
END
$$;

-- migrate:down

DROP FUNCTION keyriver.settle_alone_v1;
DROP FUNCTION keyriver.vacant_v1;
DROP FUNCTION keyriver.finish_slice_v1;
DROP FUNCTION keyriver.move_deks_v1;
DROP FUNCTION keyriver.lease_slice_v1;
DROP TABLE keyriver.campaign_failures, keyriver.campaign_slices, keyriver.campaign_rounds, keyriver.campaigns;
ALTER TABLE keyriver.versions DROP COLUMN retired_ms;
