"""Keyriver: wrap, unwrap and rewrap data keys over Kafka, with an HSM and Postgres."""
