"""What a person asks of the operator by an annotation of a binding, each acted on once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from voicekeys.api import names

if TYPE_CHECKING:
    from collections.abc import Mapping


class Orders(NamedTuple):
    """The values of the one-shot annotations; empty where there is none.

    What was acted on is kept in ``status.handled``, so that each value counts once, also after a restart.

    Args:
        sync_now: read Vault at once.
        arm: roll pods without a drain hook, whatever calls they have.
        release: the pod to let go.
        approve: go on after a call was forced.
        leaked: the key in use has leaked; the next one goes out whatever calls that cuts.
    """

    sync_now: str = ""
    arm: str = ""
    release: str = ""
    approve: str = ""
    leaked: str = ""


NO_ORDERS = Orders()


def parse_orders(metadata: Mapping[str, object]) -> Orders:
    """Read the annotations of a binding, from its ``metadata``."""
    found = metadata.get("annotations")
    if not isinstance(found, dict):
        return NO_ORDERS
    orders = Orders(*(found.get(name, "") for name in names.ORDER_ANNOTATIONS))
    return orders if any(orders) else NO_ORDERS
