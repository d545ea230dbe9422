"""The wire contract: generated from the code, committed, and checked. No room imports it."""
