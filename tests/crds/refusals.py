"""One change to a valid object, and what the API server says to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.lab.http import ApiError

if TYPE_CHECKING:
    from tests.crds.objects import Object
    from tests.lab import Lab

PATHS: Final = {
    "VoiceKeyBinding": "/apis/voicekeys.dev/v1alpha1/namespaces/default/voicekeybindings",
    "VoiceKeyStore": "/apis/voicekeys.dev/v1alpha1/voicekeystores",
}
DRY_RUN: Final = "?dryRun=All&fieldValidation=Strict"


@dataclass(frozen=True)
class Case:
    """``changes`` to a valid object are refused at ``field`` with exactly ``message``; ``why`` names the test."""

    why: str
    changes: dict[str, Any]
    field: str
    message: str


@dataclass(frozen=True)
class Refusal:
    """What the API server found wrong: (field, message) pairs, less its ``Invalid value: …: `` before the message."""

    causes: list[tuple[str, str]] = field(default_factory=list)


def create(lab: Lab, made: Object) -> Object:
    """Create ``made`` as a dry run with strict field validation and return it with its defaults, or raise ApiError."""
    created: Object = lab.api("POST", PATHS[made["kind"]] + DRY_RUN, made)
    return created


def refusal(lab: Lab, made: Object) -> Refusal:
    """Return why the API server refuses to create ``made``: no causes if it does not."""
    try:
        create(lab, made)
    except ApiError as error:
        return causes(error)
    return Refusal()


def causes(error: ApiError) -> Refusal:
    """Return the causes that ``error`` lists, less the note that CEL rules were not tried on a malformed object."""
    found = error.body.get("details", {}).get("causes", [])
    told = [each for each in found if "validation rules were not checked" not in each["message"]]
    return Refusal([(each["field"].removeprefix("<nil>"), _words(each["message"])) for each in told])


def _words(message: str) -> str:
    """Cut the API server's ``Invalid value: "…": `` off."""
    return re.sub(
        r'^Invalid value: (("(\\.|[^"\\])*"|[-\d]+|\{.*?\}|\[.*?\]): )?', "", message, count=1, flags=re.DOTALL
    )
