"""The only importers of foreign systems' clients: Kafka, Postgres, PKCS#11. Edges do not know each other."""
