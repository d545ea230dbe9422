"""Credentials that changed are read again, so a customer rotates his without a restart of the workers.

Only those for HTTPS: a token's PIN is given once per start, for tokens lock after a few wrong ones (S9).
"""

import asyncio
from pathlib import Path

from worker.edges.keystores.credentials import read_credentials
from worker.edges.keystores.opening import HttpsKeystores

Stamp = dict[str, tuple[int, int, int]]


class CredentialFolder:
    """The port `worker.flow.guarding.Credentials`. None for a folder: there are no credentials."""

    def __init__(self, folder: Path | None, https: HttpsKeystores) -> None:
        """`https` has read the folder just now."""
        self._folder, self._https = folder, https
        self._stamp = _stamp(folder)

    async def changed(self) -> frozenset[str]:
        """Names of credentials that are other ones since the last call, or are gone. A folder in disorder changes none.

        Raises `KeystoreMisconfigured`; then all stay as they were.
        """
        stamp = await asyncio.to_thread(_stamp, self._folder)
        if self._folder is None or stamp == self._stamp:
            return frozenset()
        made = await asyncio.to_thread(self._https.prepared, await asyncio.to_thread(read_credentials, self._folder))
        self._stamp = stamp
        return self._https.take(made)


def _stamp(folder: Path | None) -> Stamp:
    if folder is None:
        return {}
    found = {path.name: path.stat() for path in sorted(folder.glob("*.json"))}
    return {name: (told.st_mtime_ns, told.st_size, told.st_ino) for name, told in found.items()}
