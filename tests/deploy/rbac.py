"""RBAC as data: what the rendered roles grant, and the same manifests with one grant taken away.

`grants` and `without` let a test run the operator with each right missing in turn, so that no right stays that nothing
needs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.deploy.manifests import Object

ROLE_KINDS = ("ClusterRole", "Role")


@dataclass(frozen=True)
class Grant:
    """One resource of one rule, with all the rule's verbs or with one of them: what `without` takes away.

    `role` is the role's kind and name, `index` the rule's place in it.
    """

    role: tuple[str, str]
    index: int
    resource: str
    verb: str | None = None

    def __str__(self) -> str:
        return f"{'/'.join(self.role)}: {self.verb or 'all'} {self.resource} (rule {self.index + 1})"


def grants(objects: Sequence[Object], *, by_verb: bool = False) -> list[Grant]:
    """Return every grant of the roles among `objects`: one per rule and resource, or per verb too."""
    found = []
    for role in objects:
        if role["kind"] not in ROLE_KINDS:
            continue
        key = (role["kind"], role["metadata"]["name"])
        for index, rule in enumerate(role["rules"]):
            verbs: list[str | None] = [*rule["verbs"]] if by_verb else [None]
            found += [Grant(key, index, resource, verb) for resource in rule["resources"] for verb in verbs]
    return found


def without(objects: Sequence[Object], grant: Grant) -> list[Object]:
    """Return `objects` with one grant less; the rule's other resources keep all their verbs."""
    return [_reduced(each, grant) if _key(each) == grant.role else each for each in objects]


def _key(obj: Object) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _reduced(role: Object, grant: Grant) -> Object:
    reduced = copy.deepcopy(role)
    rule = reduced["rules"].pop(grant.index)
    others = [each for each in rule["resources"] if each != grant.resource]
    verbs = [each for each in rule["verbs"] if each != grant.verb] if grant.verb else []
    if others:
        reduced["rules"].append({**rule, "resources": others})
    if verbs:
        reduced["rules"].append({**rule, "resources": [grant.resource], "verbs": verbs})
    return reduced
