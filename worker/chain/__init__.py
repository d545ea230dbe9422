"""Pure decisions: what a request may do, which HSM operations that takes, and what it leaves behind.

No clock, no randomness, no asyncio.
"""
