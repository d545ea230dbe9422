"""A gate between ordinary batches and a record that is processed alone (D5).

While a suspect runs, nothing else may: whatever kills the process then is known by name. All lanes of a process share
one gate.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Quiet:
    """Many in `company`, or one `alone`; who waits to be alone is not overtaken."""

    def __init__(self) -> None:
        self._entry = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0

    @asynccontextmanager
    async def company(self) -> AsyncIterator[None]:
        """Run beside others of this kind."""
        async with self._entry:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run while nothing else does."""
        async with self._entry:
            await self._empty.wait()
            yield
