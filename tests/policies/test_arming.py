"""The patch that arms a pod template, without an API server; tests/deploy/arming compares it with the policy on one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.deploy.arming.cases import BY_HAND, Case, by_lot
from tests.deploy.arming.pods import HOOK, IMAGE, TOKEN, container, template
from tests.policies.test_hooks import EXEC, GAUGE, agent
from voicekeys.policies.arming import arming_manifest, arming_patch
from voicekeys.policies.hooks import is_armed

Object = dict[str, Any]

CASES = [*BY_HAND, *by_lot(seed=1, count=200)]
HTTP = {"mode": "HTTP", "maxCallDuration": "30m"}


def patched(before: Object, patch: Object | None) -> Object:
    """Apply a JSON merge patch to a template."""
    after = copy.deepcopy(before)
    notes = after["metadata"].get("annotations", {}) | (patch or {}).get("metadata", {}).get("annotations", {})
    after["metadata"]["annotations"] = {key: value for key, value in notes.items() if value is not None}
    after["spec"] |= (patch or {}).get("spec", {})
    return after


def arm(drain: Object | None, before: Object, **fields: Any) -> Object:
    """Return a template after its patch."""
    patch = arming_patch("frejun", agent(drain, **fields), before, token=TOKEN, gauge_image=IMAGE)
    return patched(before, patch)


def test_without_a_drain_there_is_nothing_to_do() -> None:
    assert arming_patch("frejun", agent(None), template(), token=TOKEN, gauge_image=IMAGE) is None


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_it_changes_its_template_no_further_than_it_must(case: Case) -> None:
    """Invariants: the template that came in stays as it is, twice is once, the user's own is in what comes out."""
    before = copy.deepcopy(case.template)
    fields = {key: value for key, value in case.agent.items() if key not in {"drain", "kind"}}
    model = agent(case.agent["drain"], **fields)
    patch = arming_patch("frejun", model, case.template, token=case.token, gauge_image=case.image)
    after = patched(case.template, patch)

    assert case.template == before
    assert arming_patch("frejun", model, after, token=case.token, gauge_image=case.image) is None
    theirs = {one["name"]: one for one in before["spec"]["containers"]}
    assert [one["name"] for one in after["spec"]["containers"]] == list(theirs)
    for one in after["spec"]["containers"]:
        own = theirs[one["name"]]
        assert own.get("lifecycle", {}).items() <= one.get("lifecycle", {}).items()
        assert one.get("env", [])[: len(own.get("env", []))] == own.get("env", [])
    assert after["spec"].get("terminationGracePeriodSeconds", 30) >= before["spec"].get(
        "terminationGracePeriodSeconds", 30
    )


def test_every_container_waits_and_the_agent_alone_is_told_how() -> None:
    spec = arm(HTTP, template(container("a"), container("b")), container="a")["spec"]
    assert [one["lifecycle"]["preStop"] for one in spec["containers"]] == [HOOK, HOOK]
    assert ["env" in one for one in spec["containers"]] == [True, False]
    assert spec["terminationGracePeriodSeconds"] == 1845


def test_a_gauge_comes_first() -> None:
    spec = arm(GAUGE, template(initContainers=[container("i")]))["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["voicekeys-gauge", "i"]


def test_a_template_that_is_not_armed_any_more_does_not_say_so() -> None:
    armed = arm(HTTP, template())
    armed["spec"]["containers"][0]["lifecycle"] = {"preStop": EXEC}
    assert not is_armed(arm(HTTP, armed))


# ---- what to commit


def manifest(drain: Object, before: Object) -> str | None:
    return arming_manifest("frejun", agent(drain), before, gauge_image=IMAGE)


def test_what_to_commit_is_what_is_lacking_and_no_more() -> None:
    before = template(
        container("agent", env=[{"name": "A", "value": "b"}], lifecycle={"postStart": EXEC}),
        container("helper"),
        initContainers=[container("i")],
    )
    text = manifest(HTTP, before)
    assert text is not None
    found = yaml.safe_load(text)["spec"]["template"]
    hook = {"httpGet": {"path": "/voicekeys/v1/drain", "port": 9909, "scheme": "HTTP"}}

    assert is_armed(found)
    assert found["spec"]["terminationGracePeriodSeconds"] == 1845
    assert "initContainers" not in found["spec"]
    assert [one["name"] for one in found["spec"]["containers"]] == ["agent", "helper"]
    for one in found["spec"]["containers"]:
        assert set(one) == {"name", "lifecycle", "env"}
        assert one["lifecycle"] == {"preStop": hook}
        assert [each["name"] for each in one["env"]] == [
            "VOICEKEYS_DRAIN_PORT",
            "VOICEKEYS_SETTLE_SECONDS",
            "VOICEKEYS_GRACE_SECONDS",
        ]


def test_what_to_commit_has_the_gauge_as_a_whole_and_leaves_out_what_stays() -> None:
    text = manifest(GAUGE, template(container("agent", lifecycle={"preStop": HOOK}), initContainers=[container("i")]))
    assert text is not None
    found = yaml.safe_load(text)["spec"]["template"]["spec"]
    (sidecar,) = found["initContainers"]
    assert (sidecar["name"], sidecar["image"]) == ("voicekeys-gauge", IMAGE)
    assert "containers" not in found


def test_what_to_commit_adds_only_variables_to_a_container_with_the_hook() -> None:
    before = template(container("agent", lifecycle={"preStop": HOOK}), container("helper", lifecycle={"preStop": HOOK}))
    text = arming_manifest("frejun", agent(HTTP, container="agent"), before, gauge_image=None)
    assert text is not None
    (only,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    assert set(only) == {"name", "env"}


def test_nothing_to_commit() -> None:
    assert manifest({"mode": "Signal"}, arm({"mode": "Signal"}, template())) is None


def test_the_token_is_not_in_what_to_commit() -> None:
    text = manifest(HTTP, template())
    assert text is not None
    assert "TOKEN" not in text.upper()
