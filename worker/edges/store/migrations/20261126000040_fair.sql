-- migrate:up

-- What slices of campaigns that are done came to, after they were pruned: nothing else of them is asked for any more.
ALTER TABLE keyriver.campaign_rounds
    ADD COLUMN pruned_slices int NOT NULL DEFAULT 0,
    ADD COLUMN pruned_items bigint NOT NULL DEFAULT 0;
CREATE INDEX campaigns_done ON keyriver.campaigns (ended_ms) WHERE state = 'done';

-- Delete slices of campaigns that were done before the window, and remember their sums; how many went. The DEKs that were
-- under a compromised version are needed for as long as anybody may ask for them. A failed or cancelled campaign may go on,
-- and its certificate covers every slice.
CREATE FUNCTION keyriver.prune_slices_v1(of_window interval, chunk int) RETURNS int LANGUAGE sql AS $$
    WITH old AS (
        SELECT s.campaign, s.round, s.number
        FROM keyriver.campaigns AS c
        JOIN keyriver.versions AS v ON v.key = c.key AND v.number = c.from_version
        JOIN keyriver.campaign_slices AS s ON s.campaign = c.id
        WHERE c.state = 'done' AND c.ended_ms < (extract(EPOCH FROM now() - of_window) * 1000)::bigint
            AND NOT c.compromised AND v.state <> 'compromised' AND coalesce(v.prior, '') <> 'compromised'
        LIMIT chunk
        FOR UPDATE OF s SKIP LOCKED
    ),
    gone AS (
        DELETE FROM keyriver.campaign_slices AS s USING old AS o
        WHERE s.campaign = o.campaign AND s.round = o.round AND s.number = o.number
        RETURNING s.campaign, s.round, s.items, s.done_at
    ),
    summed AS (
        UPDATE keyriver.campaign_rounds AS r
        SET pruned_slices = r.pruned_slices + g.slices, pruned_items = r.pruned_items + g.items
        FROM (
            SELECT campaign, round, count(done_at)::int AS slices, sum(items)::bigint AS items
            FROM gone GROUP BY campaign, round
        ) AS g
        WHERE r.campaign = g.campaign AND r.round = g.round
    )
    SELECT count(*)::int FROM gone
$$;

-- migrate:down

DROP FUNCTION keyriver.prune_slices_v1;
DROP INDEX keyriver.campaigns_done;
ALTER TABLE keyriver.campaign_rounds DROP COLUMN pruned_slices, DROP COLUMN pruned_items;
