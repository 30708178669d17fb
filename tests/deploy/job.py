"""The whole main job, as one tenant sees it, done by an operator that has no more rights than `deploy/` gives it.

Each step is a function, so that the tests of one right can do the one step that needs it.
"""

from __future__ import annotations

import base64
import itertools
from typing import TYPE_CHECKING, Any

from tests.reconcilers import objects
from tests.reconcilers.harness import NOTIFY_KEY
from tests.reconcilers.world import World, condition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

KINDS = {"Deployment": "agent", "StatefulSet": "recorder", "DaemonSet": "monitor"}
REPLICAS = {"Deployment": 2, "StatefulSet": 1, "DaemonSet": 1}
DRAINS: dict[str, Any] = {
    "Deployment": {"drain": {"mode": "HTTP"}},
    "StatefulSet": {"drain": {"mode": "Exec", "command": ["/bin/wait-until-idle"]}},
}
"""Of the agents. Two pods with a drain get deletion costs; simulated ones do not answer, so their calls are unknown.
Whether a command failed, events tell."""
CA = "vault-ca"
_numbers = itertools.count(1)


def prepare(lab: Lab, home: str) -> None:
    """What the platform team puts into the operator's namespace: Vault's CA, an AppRole's secret id, the notify key."""
    assert lab.vault.ca_file is not None
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA, "namespace": home}}
    role_id, secret_id = lab.enable_approle()
    credential = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault-approle", "namespace": home}}
    notify = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "voicekeys-notify-key", "namespace": home}}
    lab.apply(
        [
            {**ca, "data": {"ca.crt": lab.vault.ca_file.read_text(), "role-id": role_id}},
            {**credential, "stringData": {"secret-id": secret_id}},
            {**notify, "stringData": {"key": NOTIFY_KEY.decode()}},
        ]
    )


def store_spec() -> dict[str, Any]:
    """What a store of this lab says beside the harness's defaults: TLS, with the CA from a ConfigMap."""
    return {"vault": {"insecure": None, "caConfigMapRef": {"name": CA}}}


def tenant(lab: Lab, operator: Operator) -> World:
    """Make a namespace with a quota, a ServiceAccount, a store, a key, one workload of each kind and a binding."""
    world = World(lab, operator, name=f"job-{next(_numbers)}", store=False)
    world.store(**store_spec())
    populate(world)
    return world


def populate(world: World) -> None:
    """The tenant's own objects."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "roomy", "namespace": world.namespace}}
    world.lab.apply({**quota, "spec": {"hard": {"pods": "50"}}})
    world.put()
    for kind, name in KINDS.items():
        world.deploy(name, kind, wait=False, replicas=REPLICAS[kind], drain="100ms")
    for kind, name in KINDS.items():
        world.wait(f"{kind} rolled out", lambda kind=kind, name=name: world.rolled_out(name, kind))  # type: ignore[misc]
    world.bind(agents=[objects.agent(name, kind, **DRAINS.get(kind, {})) for kind, name in KINDS.items()])
    go_on(world)


def go_on(world: World, name: str = "voice") -> None:
    """Say that the next restart goes on, although nobody knows which calls it cuts: simulated pods have no agent."""
    world.annotate(name, arm=f"order-{next(_numbers)}")


def change(world: World) -> None:
    """A new key reaches the Secret and every workload, until the last pod on the old key has ended."""
    go_on(world)
    version = world.change()
    world.idle(version=version)
    digests = {world.trigger(name, kind) for kind, name in KINDS.items()}
    assert None not in digests


def adopt(world: World) -> None:
    """A Secret of somebody else's, handed over by its label, is taken over with its own labels in place."""
    meta = {"name": "theirs", "namespace": world.namespace, "labels": {"team": "voice"}}
    world.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"other": "stays"}})
    world.put("adopted")
    world.bind("adopting", "adopted", target={"secretName": "theirs", "adopt": True})
    world.until("SecretSynced", "False", name="adopting")
    world.patch(world.get("Secret", "theirs") or {}, {"metadata": {"labels": {"voicekeys.dev/adopt": "adopting"}}})
    world.sync_now("adopting")
    world.ready("adopting")
    secret = world.get("Secret", "theirs") or {}
    assert secret["metadata"]["labels"]["team"] == "voice"
    assert set(secret["data"]) == {"other", "api_key"}


def heal(world: World, name: str = "voice") -> None:
    """A hand edit of a binding's Secret is put right."""
    before = world.data(name)
    edit = {"data": {"api_key": base64.b64encode(b"edited by hand").decode()}}
    world.patch(world.get("Secret", name) or {}, edit)
    world.wait("the edit is put right", lambda: world.data(name) == before, pause=0.05)


def healed_events(world: World, name: str = "voice") -> int:
    """How often hand edits were told of: in one event that counts up."""
    told = world.events("PayloadDiffers", name)
    assert len(told) <= 1
    return sum((one.get("series") or {"count": 1})["count"] for one in told)


def come_back(world: World) -> None:
    """A deleted Secret comes back."""
    before = world.data()
    world.delete(world.get("Secret", "voice") or {})
    world.wait("the Secret is back", lambda: world.data() == before)


def lend(world: World, store: str) -> None:
    """A store with an AppRole, whose secret id is in the operator's namespace."""
    role_id = world.lab.api("GET", "/api/v1/namespaces/voicekeys-system/configmaps/vault-ca")["data"]["role-id"]
    approle: Mapping[str, Any] = {"roleId": role_id, "secretRef": {"name": "vault-approle"}}
    world.store(store, **store_spec(), auth={"kubernetes": None, "appRole": approle})
    world.bind("lent", source={"storeRef": {"name": store}})
    world.ready("lent")
    lent = condition_of(world.store_object(store), "IdentityLent")
    assert lent is None or lent["status"] == "True"
