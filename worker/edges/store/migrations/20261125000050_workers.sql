-- migrate:up

-- Which processes live, and which handles each has confirmed to be gone (S15). No row here grants anything: who forges
-- them only delays or hastens a destruction, and no use of a destroyed key gets past settle in either case.
CREATE TABLE keyriver.workers (
    run uuid PRIMARY KEY,
    name text NOT NULL,
    seen timestamptz NOT NULL,
    expires timestamptz NOT NULL
);
CREATE TABLE keyriver.confirmations (
    run uuid NOT NULL,
    key uuid NOT NULL,
    version int NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (run, key, version, revision)
);

-- migrate:down

DROP TABLE keyriver.confirmations;
DROP TABLE keyriver.workers;
