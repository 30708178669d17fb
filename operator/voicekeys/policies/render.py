"""From a key's fields to a Secret's data: selection, renaming, decoding, and every way in which that can be wrong."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from voicekeys.model.errors import Terminal
from voicekeys.model.payload import Payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.api.binding import Target
    from voicekeys.model.payload import KeyVersion

MAX_SECRET_BYTES = 1024 * 1024
"""The API server's limit for the values of a Secret's data together (core/v1 ``MaxSecretSize``)."""

MAX_KEY_LENGTH = 253
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def render(target: Target, key: KeyVersion, path: str) -> Payload:
    """Make a Secret's data from a key.

    Args:
        target: which fields, under which names, which of them base64 to decode.
        key: the key as Vault gave it.
        path: where it was read, for messages.

    Raises:
        Terminal: FieldMissing, FieldEmpty, InvalidSecretKey, InvalidBase64, SecretTooLarge, KeyEmpty; the message
            names the field to change in Vault or in the binding.
    """
    where = f"version {key.version} of {path}"
    wanted = dict(target.data) if target.data else {field: field for field in key.fields}
    if not wanted:
        raise Terminal("KeyEmpty", f"{where} has no fields: put the key's fields into it")
    missing = sorted(field for field in wanted.values() if field not in key.fields)
    if missing:
        has = ", ".join(sorted(key.fields)) or "none"
        raise Terminal(
            "FieldMissing",
            f"{where} has no field {', '.join(missing)} (it has: {has}): add it in Vault, or change spec.target.data",
        )
    values = ((name, _value(target, key.fields, name, field)) for name, field in wanted.items())
    rendered = Payload({name: value for name, value in values if value is not None})
    _check_values(rendered, wanted, where)
    _check_names(rendered, where)
    if rendered.size() > MAX_SECRET_BYTES:
        raise Terminal(
            "SecretTooLarge",
            f"{where} makes a Secret of {rendered.size()} bytes, more than the {MAX_SECRET_BYTES} that Kubernetes "
            "allows: select fewer fields with spec.target.data",
        )
    return rendered


def _check_values(rendered: Payload, wanted: Mapping[str, str], where: str) -> None:
    for name, field in wanted.items():
        if name not in rendered:
            raise Terminal(
                "InvalidBase64",
                f"field {field} in {where} is not base64, as spec.target.base64Decode says of {name}: "
                "encode it in Vault, or take it out of base64Decode",
            )
        if not rendered.reveal(name):
            message = f"field {field} in {where} is empty: put the key into it, or leave the field out"
            raise Terminal("FieldEmpty", message)


def _value(target: Target, fields: Payload, name: str, field: str) -> bytes | None:
    """A Secret key's value; None when it is not the base64 that it is said to be.

    Nothing is raised in here: a traceback may show the variables of its frames.
    """
    value = fields.reveal(field)
    if name not in target.base64_decode:
        return value
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except ValueError:
        return None


def _check_names(rendered: Payload, where: str) -> None:
    for name in rendered:
        # k8s.io/apimachinery IsConfigMapKey: "." and whatever starts with ".." could lead out of a volume's folder.
        if len(name) > MAX_KEY_LENGTH or not _SECRET_KEY.fullmatch(name) or name == "." or name.startswith(".."):
            raise Terminal(
                "InvalidSecretKey",
                f"field {name[:64]!r} in {where} cannot be a Secret's key (letters, digits, '-', '_', '.', "
                "but no '..' at the start): rename it with spec.target.data",
            )
