"""Bodies of commands from words of the command line: what the format refuses is a usage error, by its field's name."""

from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from worker.cli.errors import Usage

B = TypeVar("B", bound=BaseModel)
E = TypeVar("E", bound=StrEnum)


def body(kind: type[B], /, **words: object) -> B:
    """The body. Raises `Usage`."""
    try:
        return kind.model_validate(words)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise Usage(told) from None


def chosen(words: str, of: type[E], what: str) -> tuple[E, ...]:
    """A comma-separated choice of an enumeration's values. Raises `Usage`, naming them all."""
    try:
        return tuple(of(word.strip()) for word in words.split(","))
    except ValueError:
        raise Usage(f"{what}: a comma-separated choice of {', '.join(each.value for each in of)}") from None
