"""Lists that come page by page."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from worker.model.bodies import CommandBody
from worker.model.operations import Operation
from worker.model.replies import CommandResult

R = TypeVar("R", bound=CommandResult)
V = TypeVar("V")


class Asking(Protocol):
    """An officer's connection."""

    async def ask(self, operation: Operation, body: CommandBody, kind: type[R]) -> R:
        """One command and its answer."""
        ...


async def every(
    asking: Asking,
    operation: Operation,
    first: CommandBody,
    kind: type[R],
    of: Callable[[R], Sequence[V]],
    after: Callable[[R], object],
) -> list[V]:
    """All of a list: `of` a page what stands on it, `after` it the place where the next one begins, None at the end."""
    page = await asking.ask(operation, first, kind)
    found = [*of(page)]
    while (place := after(page)) is not None:
        page = await asking.ask(operation, first.model_copy(update={"after": place}), kind)
        found += of(page)
    return found
