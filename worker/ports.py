"""The edges as the flow sees them: Protocols with few methods, one port per flow. No implementation stands here."""
