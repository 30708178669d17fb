"""What has to be committed for the drain hook: it arms the pods, it fits the status, it holds no token."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.crds.schemas import BINDINGS, schema_of
from tests.deploy.arming.pods import HOOK, IMAGE, TOKEN, container, template
from tests.gen import strategic
from tests.policies.test_arming import CASES
from tests.policies.test_hooks import GAUGE, agent
from voicekeys.api.binding import AgentKind
from voicekeys.api.status import MAX_HOOK_PATCH, AgentStatus
from voicekeys.model.identity import Name
from voicekeys.policies import hook_patch
from voicekeys.policies.arming import PLACEHOLDER, arming_manifest, arming_patch
from voicekeys.policies.conditions import MAX_MESSAGE

Object = dict[str, Any]
OWN_TOKEN = re.compile("VOICEKEYS_DRAIN_TOKEN|X-Voicekeys-Token", re.IGNORECASE)
HTTP = {"mode": "HTTP", "maxCallDuration": "30m"}
LONGEST = {
    "path": "/" + "p" * 511,
    "jsonPointer": "/" + "p" * 511,
    "zeroIfPresent": "/" + "q" * 511,
    "authorizationSecret": {"name": "s" * 253, "key": "k" * 253},
}
MANY = [container(f"{number:02d}{'c' * 61}") for number in range(16)]
TOKEN_ENV = [{"name": "VOICEKEYS_DRAIN_TOKEN", "value": TOKEN}]


def by_name(spec: Object) -> Object:
    """Return a pod spec whose containers are in no order: a strategic merge cannot put one first."""
    keys = ("containers", "initContainers")
    return spec | {key: {one["name"]: one for one in spec[key]} for key in keys if key in spec}


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_who_commits_it_has_what_arming_would_have_made(case: Any) -> None:
    fields = {key: value for key, value in case.agent.items() if key not in {"drain", "kind"}}
    model = agent(case.agent["drain"], **fields)
    text = arming_manifest("frejun", model, case.template, gauge_image=case.image)
    if text is None or OWN_TOKEN.search(json.dumps(case.template)):
        assert not any(token in (text or "") for token in (TOKEN, "theirs"))
        return
    committed = strategic.apply({"spec": {"template": case.template}}, json.loads(text))["spec"]["template"]
    armed = arming_patch("frejun", model, case.template, token=None, gauge_image=case.image) or {}
    assert by_name(committed["spec"]) == by_name(case.template["spec"] | armed.get("spec", {}))
    assert arming_manifest("frejun", model, committed, gauge_image=case.image) is None


TOKENS = {
    "a token of the agent's": template(container("a", env=TOKEN_ENV), container("b")),
    "a hook with a token": template(container("a", lifecycle={"preStop": HOOK})),
    "a hook with a token beside a container without": template(
        container("a", lifecycle={"preStop": HOOK}), container("b")
    ),
}


@pytest.mark.parametrize("before", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("drain", [HTTP, GAUGE], ids=["HTTP", "Gauge"])
def test_a_token_of_the_manifest_is_not_told(before: Object, drain: Object) -> None:
    text = arming_manifest("frejun", agent(drain), before, gauge_image=IMAGE)
    assert text is not None
    assert TOKEN not in text


def test_a_hook_that_wants_the_agents_token_is_not_taken_before_it_is_filled_in() -> None:
    """An API server refuses a header of that name; the hook with a wrong token would be refused when a call is live."""
    text = arming_manifest("frejun", agent(HTTP), TOKENS["a token of the agent's"], gauge_image=None)
    assert text is not None
    assert PLACEHOLDER in text
    for one in json.loads(text)["spec"]["template"]["spec"]["containers"]:
        (header,) = one["lifecycle"]["preStop"]["httpGet"]["httpHeaders"]
        assert not header["name"].replace("-", "").isalnum()
    told = hook_patch.to_commit("Deployment n/a", 1, text, "kubectl")
    assert PLACEHOLDER in told.message.split("kubectl")[0]


def test_the_longest_gauge_fits_the_status() -> None:
    drain = {"mode": "Gauge", "port": 65535, "maxCallDuration": "30m", "gauge": LONGEST}
    text = arming_manifest("f" * 59, agent(drain), template(*MANY), gauge_image="i" * 512)
    assert text is not None
    assert 6000 < len(text) < MAX_HOOK_PATCH
    items = schema_of(BINDINGS)["properties"]["status"]["properties"]["agents"]["items"]
    assert items["properties"]["hookPatch"]["maxLength"] == MAX_HOOK_PATCH


def test_patches_share_the_room_of_the_status() -> None:
    third = "x" * (MAX_HOOK_PATCH // 3)
    assert list(hook_patch.fitting({"a": third, "b": third, "c": third, "d": third})) == ["a", "b", "c"]
    assert list(hook_patch.fitting({"a": "x" * (MAX_HOOK_PATCH + 1), "b": "x" * MAX_HOOK_PATCH})) == ["b"]


def test_what_does_not_fit_a_message_is_in_the_status_alone() -> None:
    short = hook_patch.to_commit("Deployment n/a", 2, "{}", "kubectl get")
    assert short.message.endswith("kubectl get : {}")
    long = hook_patch.to_commit("Deployment n/a", 2, "é" * 500, "kubectl get")
    assert long.message.endswith("kubectl get")
    assert len(f"DrainArmed: {long.message}".encode()) <= MAX_MESSAGE


def test_what_fits_no_status_is_said_to_be_too_long() -> None:
    drain = {"mode": "Exec", "command": ["x" * 1024] * 9}
    text = arming_manifest("frejun", agent(drain), template(), gauge_image=None)
    assert text is not None
    told = hook_patch.to_commit("Deployment n/a", 2, text, "kubectl get")
    assert "drain.command" in told.message
    assert "xxx" not in told.message


def test_the_command_names_one_agent() -> None:
    deployment = AgentStatus(AgentKind.DEPLOYMENT, "agent", uid="u1")
    twin = AgentStatus(AgentKind.STATEFUL_SET, "agent", uid="u2")
    binding = Name("voice", "frejun")
    alone = hook_patch.command(binding, deployment, [deployment])
    assert alone == "kubectl get vkb frejun -n voice -o jsonpath='{.status.agents[?(@.name==\"agent\")].hookPatch}'"
    assert '@.uid=="u2"' in hook_patch.command(binding, twin, [deployment, twin])


def test_who_has_the_hook_coming_is_told_to_roll_out() -> None:
    told = hook_patch.unarmed("Deployment n/a", 2)
    assert told.reason == "UnarmedPods"
    assert told.message.startswith("Deployment n/a, 2 pod(s): no drain hook")
    assert "kubectl" not in told.message
