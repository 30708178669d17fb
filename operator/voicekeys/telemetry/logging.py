"""Logs: one JSON object a line, ours and every library's through the same pipe, redacted as the very last step.

`setup` is called once by ``__main__``, before anything that could log. Structlog's loggers and the standard library's
(kopf, aiohttp, hvac, asyncio, warnings) end in one handler, and its formatter redacts the *finished line*, after the
renderer. That is the safer place of the two: a processor in front of the renderer sees only the strings it walks to,
while the renderer still turns objects, keys and exceptions into text behind its back. The price is paid here: the
redactor has to know the escaped forms of each value, and a mask may break the JSON, so a changed line is parsed again.

What logging prints by itself when it fails (the arguments of the call) and what Python prints of an uncaught exception
go past every formatter; both are taken over here.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType

    from voicekeys.telemetry.redaction import Redactor

    EventDict = MutableMapping[str, Any]

MAX_TEXT = 16_384  # characters of one message or traceback: kopf prints whole objects at DEBUG
# These print bodies, patches and responses at DEBUG, other people's Secrets among them.
TALKATIVE = ("kopf", "kubernetes", "urllib3", "requests", "hvac")

_FALLBACK_LEVEL = "error"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How to log.

    Args:
        level: least level that is written: DEBUG, INFO, WARNING or ERROR.
        format: ``json`` for machines, ``console`` for a person at a terminal.
        libraries: let the libraries in `TALKATIVE` go below INFO too; they print objects and responses then. What
            they print is redacted like everything else, but only values that this operator knows are known.
    """

    level: str = "INFO"
    format: Literal["json", "console"] = "json"
    libraries: bool = False


def setup(options: LogOptions, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Route all logging through one redacting handler. May be called again; the last call holds.

    Args:
        options: see `LogOptions`.
        redactor: knows the live secret values.
        stream: where lines go; standard error by default.
    """
    level = logging.getLevelNamesMapping()[options.level.upper()]
    handler = RedactingHandler(redactor, stream or sys.stderr)
    handler.setFormatter(formatter(options, redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(level if options.libraries else max(level, logging.INFO))
    # It writes a line for each event that came, at INFO.
    logging.getLogger("kopf.objects").setLevel(logging.NOTSET if options.libraries else logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _catch_uncaught()


def formatter(options: LogOptions, redactor: Redactor) -> RedactingFormatter:
    """Build the formatter that renders, then redacts."""
    return RedactingFormatter(
        redactor,
        as_json=options.format == "json",
        foreign_pre_chain=[*_shared(), _object_of_kopf],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # A plain traceback: no values of local variables in it, whatever else is installed.
            structlog.processors.format_exc_info,
            _shorten,
            _render_json
            if options.format == "json"
            else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
    )


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Renders a record to one line and redacts that line.

    Args:
        redactor: knows the live secret values.
        as_json: lines must stay valid JSON after redaction.
        options: of `structlog.stdlib.ProcessorFormatter`.
    """

    def __init__(self, redactor: Redactor, *, as_json: bool, **options: Any) -> None:
        super().__init__(**options)
        self._redactor = redactor
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Give the line that is written."""
        line = super().format(record)
        clean = self._redactor.redact(line)
        if clean is line or clean == line or not self._as_json:
            return clean
        return clean if _is_json(clean) else _as_event(clean, record)


class RedactingHandler(logging.StreamHandler[TextIO]):
    """Writes lines; when one cannot be made, says so without the arguments of the call.

    Args:
        redactor: knows the live secret values.
        stream: where lines go.
    """

    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        super().__init__(stream)
        self._redactor = redactor

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the standard library's
        """Name the fault and the place. The standard one prints the message and its arguments in the clear."""
        fault = sys.exc_info()[0]
        name = fault.__name__ if fault else "error"
        event = f"a log line from {record.name} ({record.filename}:{record.lineno}) could not be written: {name}"
        line = json.dumps({"event": self._redactor.redact(event), "level": _FALLBACK_LEVEL, "logger": __name__})
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except (OSError, ValueError):
            pass  # the stream itself is gone: there is nowhere left to say so


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]


def _object_of_kopf(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Kopf's object logger carries a reference in the record; the rest of its extras are settings and bodies."""
    record = event.get("_record")
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, dict):
        event["object"] = {key: reference.get(key) for key in ("kind", "namespace", "name")}
    return event


def _shorten(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Cut long texts before the renderer sees them, so that the line stays valid; a cut value is still recognised."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            event[key] = f"{value[:MAX_TEXT]}… ({len(value) - MAX_TEXT} more characters)"
    return event


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    fields = {"time": event.pop("time", None), "level": event.pop("level", None), **event}
    try:
        return orjson.dumps(fields, default=_printable, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates, integers beyond 64 bits, circular references
        return json.dumps({str(key): _printable(value) for key, value in fields.items()})


def _printable(value: object) -> str:
    """Say what cannot be JSON; bytes are never shown, they may be a key that nobody registered."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return value if isinstance(value, str) else repr(value)


def _is_json(line: str) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _as_event(line: str, record: logging.LogRecord) -> str:
    return json.dumps({"level": record.levelname.lower(), "logger": record.name, "event": line})


def _catch_uncaught() -> None:
    """Send what would end on standard error in the clear through the logger."""

    def uncaught(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        logging.getLogger("voicekeys").critical("uncaught exception", exc_info=(kind, fault, trace))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        trouble = (args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None
        logging.getLogger("voicekeys").error("exception that could not be raised", exc_info=trouble)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable
