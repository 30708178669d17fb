"""What the models of both kinds share: their configuration and the field types that YAML has no word for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from voicekeys.api.durations import format_duration, parse_duration

CONFIG: Final = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")
"""Of every model. Unknown fields are ignored: a newer CRD must not stop an older operator during an upgrade."""


def _duration(value: object) -> object:
    """Read a duration's text; what is not text is pydantic's to judge."""
    return parse_duration(value) if isinstance(value, str) else value


def _rfc3339(moment: datetime) -> str:
    """Write ``moment`` as Kubernetes does: UTC, whole seconds, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _second(moment: datetime) -> datetime:
    """Cut ``moment`` to what its text can carry, so that a status equals itself after a round trip."""
    return moment.astimezone(UTC).replace(microsecond=0)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""A timedelta that is written like ``1h30m`` (``voicekeys.api.durations``)."""

Time = Annotated[
    AwareDatetime,
    AfterValidator(_second),
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An aware UTC datetime of whole seconds that is written as RFC 3339 with ``Z``."""
