"""Logs: structlog and the standard library through one chain, redaction first; JSON lines, or colours on a terminal."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.watch.healing import calm
from worker.watch.redaction import clean_text, redact

_LOUD = ("aiokafka", "asyncio", "asyncpg")
"""Libraries that speak much at info; their warnings are heard."""


def set_up_logs(level: str = "info", stream: TextIO | None = None, *, pretty: bool | None = None) -> None:
    """Send every log of this process to `stream` (stderr). `pretty` None: colours if the stream is a terminal."""
    stream = stream or sys.stderr
    pretty = stream.isatty() if pretty is None else pretty
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(pretty=pretty)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[redact, *shared], processors=[_text_of_errors, *last])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    calm()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            redact,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)


def _rendered(*, pretty: bool) -> list[Processor]:
    if pretty:
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer(sort_keys=False)]


def _text_of_errors(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Render exceptions to text without locals, and clean what became text only now."""
    event = structlog.processors.format_exc_info(logger, name, event)
    for field in ("event", "exception", "stack"):
        if isinstance(text := event.get(field), str):
            event[field] = clean_text(text)
    return event
