"""Which binding may read which path: the store's rules, applied before any login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicekeys.api.store import LabelSelectorOperator as Op
from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.api.binding import BindingSpec
    from voicekeys.api.store import LabelSelector, LabelSelectorRequirement, Rule, StoreSpec


def refusal(spec: BindingSpec, namespace: str, labels: Mapping[str, str], store: StoreSpec) -> Verdict | None:
    """Say why a store's rules refuse a binding; None when one rule allows it.

    Args:
        spec: the binding.
        namespace: its namespace.
        labels: that namespace's labels.
        store: the store that the binding names.
    """
    name, path, environment = spec.source.store_ref.name, spec.source.path, spec.environment
    of_environment = [rule for rule in store.rules if rule.environment == environment]
    if not of_environment:
        known = ", ".join(sorted({rule.environment for rule in store.rules}))
        return Verdict(
            "EnvironmentNotAllowed",
            f"store {name} has no rule for environment {environment} (it has: {known}): change spec.environment, "
            "or ask the owners of the store for a rule",
        )
    reachable = [rule for rule in of_environment if selects(rule.namespace_selector, labels)]
    if not reachable:
        return Verdict(
            "NamespaceNotAllowed",
            f"store {name}: {_named(of_environment)} for environment {environment} cannot be used by namespace "
            f"{namespace}: label the namespace as the rule wants, or ask the owners of the store",
        )
    if any(is_below(path, prefix) for rule in reachable for prefix in rule.path_prefixes):
        return None
    allowed = ", ".join(sorted({prefix for rule in reachable for prefix in rule.path_prefixes}))
    return Verdict(
        "PathNotAllowed",
        f"store {name}: by {_named(reachable)} namespace {namespace} may read below {allowed}, not {path}: "
        "change spec.source.path, or ask the owners of the store",
    )


def _named(rules: list[Rule]) -> str:
    return ("rule " if len(rules) == 1 else "rules ") + ", ".join(rule.name for rule in rules)


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is a prefix or below it, by whole segments: ``voice/prod`` does not cover ``voice/production``."""
    wanted = prefix.strip("/").split("/")
    return path.split("/")[: len(wanted)] == wanted


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector selects labels, as the API server does it; an empty selector selects everything."""
    exact = all(labels.get(key) == value for key, value in (selector.match_labels or {}).items())
    return exact and all(_meets(requirement, labels) for requirement in selector.match_expressions)


def _meets(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    meets = {
        Op.IN: value in requirement.values,
        Op.NOT_IN: value not in requirement.values,  # so that a label that is missing meets it, as in Kubernetes
        Op.EXISTS: value is not None,
        Op.DOES_NOT_EXIST: value is None,
    }
    return meets[requirement.operator]
