"""What an outsider needs to check a proof of the audit log."""
