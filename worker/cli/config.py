"""Settings for commands; what is wrong with them is told by the setting's name, never with its value."""

import os
from typing import TypeVar

from pydantic import ValidationError

from worker.cli.errors import Refused
from worker.settings import CONFIG, LOCAL_CONFIG, Books, Reach, Settings, config_file

S = TypeVar("S", Reach, Books, Settings)


class BadSettings(Refused):
    """Some settings are missing or wrong; `faults` names each."""

    def __init__(self, faults: list[str]) -> None:
        where = config_file()
        told = f"settings (environment, {where})" if where else "settings (environment)"
        cure = "" if where else f"\n  → `keyriver local up` writes {LOCAL_CONFIG}; or name a TOML file in {CONFIG}"
        super().__init__(f"{told}: " + "; ".join(faults) + cure)
        self.faults = faults


def load(kind: type[S]) -> S:
    """The settings. Raises `BadSettings`."""
    named = os.environ.get(CONFIG)
    if named and not os.path.isfile(named):  # noqa: PTH113 - a name from the environment
        raise BadSettings([f"{CONFIG}: there is no file {named}"])
    try:
        return kind()
    except ValidationError as error:
        raise BadSettings([_told(each["loc"], each["msg"]) for each in error.errors(include_input=False)]) from None
    except ValueError as error:
        raise BadSettings([f"{config_file()}: not TOML ({error})"]) from None


def _told(place: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}: {message}" if place else message
