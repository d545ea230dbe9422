-- migrate:up

-- Which tokens a region is (S19), by their serials.
CREATE TABLE keyriver.regions (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    serials text[] NOT NULL,
    revision bigint NOT NULL,
    mac_version int NOT NULL,
    mac bytea NOT NULL
);

-- migrate:down

DROP TABLE keyriver.regions;
