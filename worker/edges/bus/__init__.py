"""The Kafka edge: what a lane consumes, what is published, topics read without a group, administration."""
