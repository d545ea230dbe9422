"""Lists that come page by page."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from worker.cli.output import say
from worker.model.bodies import CommandBody
from worker.model.fields import Page
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
    """All of a list: `of` a page what stands on it, `after` it the place where the next one begins, None at the end.

    Rows that somebody changed are named on stderr, and the list goes on after them.
    """
    found: list[V] = []
    asked = first
    while True:
        page = await asking.ask(operation, asked, kind)
        found += of(page)
        place = after(page)
        if isinstance(page, Page):
            place = page.next_after or place
            for name in page.tampered or ():
                say(f"INTEGRITY: the row {name} was changed by another hand and is not shown")
        if place is None:
            return found
        fields = first.model_dump(exclude_none=True) | {"after": place}
        asked = type(first).model_validate(fields)
