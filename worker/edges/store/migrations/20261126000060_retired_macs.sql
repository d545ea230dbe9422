-- migrate:up

-- No row is written any more under a version of the row MAC key that was retired: who made the MAC before, and stood
-- still meanwhile, comes again and makes another.
ALTER FUNCTION keyriver.put_rows_v3 RENAME TO put_any_rows_v3;

CREATE FUNCTION keyriver.put_rows_v3(puts jsonb, dead int[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM jsonb_array_elements(puts) AS e
        JOIN keyriver.fleet_keys AS f ON f.number = (e -> 'row' ->> 'mac_version')::int
        WHERE f.kind = 'row-mac' AND f.state = 'retired'
    ) THEN
        RAISE EXCEPTION 'a row comes with a MAC of a retired version' USING ERRCODE = 'KR002';
    END IF;
    PERFORM keyriver.put_any_rows_v3(puts, dead);
END
$$;

-- migrate:down

DROP FUNCTION keyriver.put_rows_v3;
ALTER FUNCTION keyriver.put_any_rows_v3 RENAME TO put_rows_v3;
