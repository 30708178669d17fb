"""The policy (CEL, in the API server) and `policies.arming` (Python, in the operator) make the same pods."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.arming.cases import BY_HAND, Case, by_lot
from tests.deploy.arming.pods import await_arming, bind, create, notes, pod_of
from voicekeys.api.binding import Agent, parse_binding_spec
from voicekeys.policies.arming import arming_patch
from voicekeys.policies.hooks import hook_conflict, is_armed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

Object = dict[str, Any]

LOTS = 100
CASES = [*BY_HAND, *by_lot(seed=20261127, count=LOTS)]


def _named(number: int, case: Case) -> Object:
    return {**case.agent, "name": f"agent-{number}"}


def _model(agent: Object) -> Agent:
    spec = {"environment": "e", "source": {"path": "p"}, "agents": [agent]}
    return parse_binding_spec(spec).agents[0]


@pytest.fixture(scope="module")
def bound(armed: Lab) -> Iterator[tuple[Lab, str, str]]:
    """A namespace with a binding for each case, and one without any."""
    here, bare = armed.make_namespace("both-ways"), armed.make_namespace("bare")
    for number, case in enumerate(CASES):
        bind(armed, here, f"b{number}", _named(number, case), token=case.token, image=case.image)
    await_arming(armed, here)
    yield armed, here, bare
    for name in (here, bare):
        armed.api("DELETE", f"/api/v1/namespaces/{name}")


def merged(template: Object, patch: Object | None) -> Object:
    """Apply a JSON merge patch of a template."""
    made = copy.deepcopy(template)
    if patch:
        annotations = made["metadata"].get("annotations", {}) | patch.get("metadata", {}).get("annotations", {})
        made["metadata"]["annotations"] = {key: value for key, value in annotations.items() if value is not None}
        made["spec"] |= patch.get("spec", {})
    return made


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=[case.says for case in CASES])
def test_a_pod_is_the_same_by_policy_and_by_template(bound: tuple[Lab, str, str], number: int, case: Case) -> None:
    lab, here, bare = bound
    agent = _named(number, case)
    kind, name = agent["kind"], agent["name"]
    model = _model(agent)

    by_policy = create(lab, here, pod_of(kind, name, case.template))
    patch = arming_patch(f"b{number}", model, case.template, token=case.token, gauge_image=case.image)
    by_template = create(lab, bare, pod_of(kind, name, merged(case.template, patch)))

    assert by_policy["spec"] == by_template["spec"]
    assert notes(by_policy) == notes(by_template)
    conflict = hook_conflict(name, model, case.template["spec"], token=case.token, gauge_image=case.image)
    theirs = notes(case.template).get("voicekeys.dev/armed-by")
    if theirs is None or theirs == f"b{number}":
        assert is_armed(by_policy) == (conflict is None), conflict


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=[case.says for case in CASES])
def test_an_armed_template_is_left_as_it_is_by_both(bound: tuple[Lab, str, str], number: int, case: Case) -> None:
    """What Template has patched, the policy finds done; and the patch is not sent twice."""
    lab, here, _ = bound
    agent = _named(number, case)
    model = _model(agent)
    known = {"token": case.token, "gauge_image": case.image}
    armed = merged(case.template, arming_patch(f"b{number}", model, case.template, **known))

    assert arming_patch(f"b{number}", model, armed, **known) is None
    pod = create(lab, here, pod_of(agent["kind"], agent["name"], armed))
    assert notes(pod) == notes(armed)
    assert pod["spec"]["terminationGracePeriodSeconds"] == armed["spec"].get("terminationGracePeriodSeconds", 30)
    names = [one["name"] for one in armed["spec"].get("initContainers", [])]
    assert [one["name"] for one in pod["spec"].get("initContainers", [])] == names


def test_the_cases_show_both_outcomes() -> None:
    """A comparison of pods that are all unarmed would show nothing."""
    outcomes = [
        hook_conflict("", _model(_named(0, case)), case.template["spec"], token=case.token, gauge_image=case.image)
        for case in CASES
    ]
    reasons = {one.reason for one in outcomes if one is not None}
    assert outcomes.count(None) > len(CASES) / 3
    assert reasons == {
        "ContainerMissing",
        "OtherHook",
        "HookMissing",
        "OtherEnvironment",
        "GaugeImageUnknown",
        "GaugeNotOnWindows",
    }
