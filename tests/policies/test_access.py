"""Which binding may read which path: the store's rules."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.model.verdict import Verdict
from voicekeys.policies import access

PRODUCTION = gen.rule("voice-production", "production", "voice/production", matchLabels={"env": "production"})
TELEPHONY = gen.rule("telephony", "production", "telephony", "voice/shared", matchLabels={"env": "production"})
STAGING = gen.rule("voice-staging", "staging", "voice/staging")
LABELS = {"env": "production"}


def refused(*rules: gen.Modifier, path: str = "voice/production/frejun", environment: str = "production") -> object:
    spec = gen.spec(gen.put("spec.source.path", path), gen.put("spec.environment", environment))
    return access.refusal(spec, "voice", LABELS, gen.store_spec(*rules))


ALLOWED = {
    "a path below the rule's prefix": refused(PRODUCTION),
    "the prefix itself": refused(PRODUCTION, path="voice/production"),
    "any prefix of the rule": refused(TELEPHONY, path="voice/shared/x"),
    "any rule of the environment": refused(PRODUCTION, TELEPHONY, path="telephony/x"),
    "a rule for every namespace": refused(STAGING, environment="staging", path="voice/staging/x"),
}


@pytest.mark.parametrize("verdict", ALLOWED.values(), ids=ALLOWED)
def test_a_rule_allows(verdict: Verdict | None) -> None:
    assert verdict is None


REFUSED = {
    "no rule for the environment": (
        refused(PRODUCTION, STAGING, environment="test"),
        "EnvironmentNotAllowed",
        (
            "store default has no rule for environment test (it has: production, staging): change spec.environment, "
            "or ask the owners of the store for a rule"
        ),
    ),
    "the one rule selects other namespaces": (
        refused(gen.rule("eu", "production", "voice", matchLabels={"region": "eu"})),
        "NamespaceNotAllowed",
        (
            "store default: rule eu for environment production cannot be used by namespace voice: "
            "label the namespace as the rule wants, or ask the owners of the store"
        ),
    ),
    "the path is that of a rule for other namespaces": (
        refused(PRODUCTION, gen.rule("eu", "production", "eu", matchLabels={"region": "eu"}), path="eu/x"),
        "PathNotAllowed",
        (
            "store default: by rule voice-production namespace voice may read below voice/production, not eu/x: "
            "change spec.source.path, or ask the owners of the store"
        ),
    ),
    "the path only starts like the prefix": (
        refused(PRODUCTION, TELEPHONY, path="voice/production-old/x"),
        "PathNotAllowed",
        (
            "store default: by rules voice-production, telephony namespace voice may read below telephony, "
            "voice/production, voice/shared, not voice/production-old/x: change spec.source.path, or ask the owners "
            "of the store"
        ),
    ),
}


@pytest.mark.parametrize(("verdict", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_no_rule_allows(verdict: Verdict | None, reason: str, message: str) -> None:
    assert verdict == Verdict(reason, message)


_SEGMENT = st.text(string.ascii_lowercase + "-", min_size=1, max_size=4)
_PATH = st.lists(_SEGMENT, min_size=1, max_size=4).map("/".join)


@given(prefix=_PATH, rest=_PATH)
def test_a_path_is_below_its_prefix_by_whole_segments(prefix: str, rest: str) -> None:
    assert access.is_below(prefix, prefix)
    assert access.is_below(f"{prefix}/{rest}", prefix)
    assert not access.is_below(prefix, f"{prefix}/{rest}")
    assert not access.is_below(f"{prefix}{rest}", prefix)  # the last segment goes on: another name


@given(path=_PATH, prefix=_PATH)
def test_below_means_that_the_prefix_and_a_slash_start_the_path(path: str, prefix: str) -> None:
    assert access.is_below(path, prefix) == f"{path}/".startswith(f"{prefix}/")


SELECTORS = {
    "the empty selector selects a namespace without labels": ({}, {}, True),
    "a label that is equal": ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
    "a label with another value": ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
    "a label that is missing": ({"matchLabels": {"a": "1"}}, {}, False),
    "both labels are needed": ({"matchLabels": {"a": "1", "b": "2"}}, {"a": "1"}, False),
    "In: one of the values": ([("a", "In", "1", "2")], {"a": "2"}, True),
    "In: none of the values": ([("a", "In", "1", "2")], {"a": "3"}, False),
    "In: a missing label is in nothing": ([("a", "In", "1")], {}, False),
    "NotIn: one of the values": ([("a", "NotIn", "1")], {"a": "1"}, False),
    "NotIn: another value": ([("a", "NotIn", "1")], {"a": "2"}, True),
    "NotIn: a missing label is in nothing": ([("a", "NotIn", "1")], {}, True),
    "Exists: with any value": ([("a", "Exists")], {"a": ""}, True),
    "Exists: a missing label": ([("a", "Exists")], {}, False),
    "DoesNotExist: a missing label": ([("a", "DoesNotExist")], {}, True),
    "DoesNotExist: with an empty value": ([("a", "DoesNotExist")], {"a": ""}, False),
    "every expression has to hold": ([("a", "Exists"), ("b", "Exists")], {"a": ""}, False),
}


@pytest.mark.parametrize(("fields", "labels", "selects"), SELECTORS.values(), ids=SELECTORS)
def test_a_selector_selects_as_the_api_server_does(
    fields: dict[str, object] | list[tuple[str, ...]],
    labels: dict[str, str],
    selects: bool,  # noqa: FBT001
) -> None:
    if isinstance(fields, list):
        fields = {"matchExpressions": [{"key": k, "operator": o, "values": v} for k, o, *v in fields]}
    assert access.selects(gen.selector(**fields), labels) is selects
