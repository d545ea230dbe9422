"""The store's edge: Postgres behind the ports Store, Leases, Outbox and Attempts, and an in-memory fake of the same."""
