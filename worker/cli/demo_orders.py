"""The demo's officers: commands as they would be typed, and the second officer where one is not enough."""

import shlex
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from worker.cli import app, identities
from worker.cli.demo_story import Story
from worker.client import Pending, RequestRefused
from worker.settings import Settings

SECOND = "bob"


async def order(story: Story, line: str) -> None:
    """Show a command, carry it out and show what it prints; the second officer approves it if he has to."""
    if told := await _approved(story, line):
        story.tell(told)


async def quietly(story: Story, line: str) -> None:
    """As `order`, without what it prints."""
    await _approved(story, line)


async def _approved(story: Story, line: str) -> str:
    """What the first officer's command prints; nothing where a second one had to approve it."""
    story.typed(f"keyriver {line}")
    try:
        return await printed(line)
    except Pending as waiting:
        story.tell("pending: another officer has to approve it", "dim")
        await quietly(story, f"approval approve {waiting.approval.id} --as {_second()}")
        return ""


async def refused(story: Story, line: str) -> str:
    """A command that the fleet must refuse: the code, empty if it was carried out."""
    story.typed(f"keyriver {line}")
    try:
        await printed(line)
    except Pending:
        return ""
    except RequestRefused as error:
        story.tell(str(error), "dim")
        return str(error.code)
    return ""


async def printed(line: str) -> str:
    """What the command prints as its result."""
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(StringIO()):
        await app.run_async(shlex.split(line), exit_on_error=False, result_action="return_value")
    return out.getvalue().rstrip()


def _second() -> str:
    return str(identities.path_of(Settings().identities, SECOND))
