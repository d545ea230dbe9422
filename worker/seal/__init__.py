"""Cryptography on bytes, shared by flow and client: framing, signatures, HPKE, MAC inputs, announcements. No I/O."""
