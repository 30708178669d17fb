"""A tenant of the lab: a namespace, its ServiceAccount, a store of its name, and what a user does and sees there."""

from __future__ import annotations

import base64
import itertools
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab.processes import every
from tests.reconcilers import objects
from tests.reconcilers.check import check_binding, check_store, violations
from tests.reconcilers.harness import found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.lab import Lab
    from tests.reconcilers.harness import Operator
    from tests.reconcilers.objects import Object

READER = "voicekeys-reader"
_numbers = itertools.count(1)
_APPS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


class World:
    """A tenant. `store=False` makes no store; `reader=False` no ServiceAccount."""

    def __init__(
        self, lab: Lab, operator: Operator, *, name: str = "", store: bool = True, reader: bool = True, **labels: str
    ) -> None:
        self.lab = lab
        self.operator = operator
        self.namespace = lab.make_namespace(name or f"tenant-{next(_numbers)}", labels)
        self.store_name = self.namespace
        self._puts = itertools.count(1)
        self.statuses: Any = None  # a StatusWatch, where one is running
        if reader:
            self.make_reader()
        if store:
            self.store()

    # ---- what people apply

    def make_reader(self, name: str = READER) -> None:
        """Make the ServiceAccount whose rights read keys."""
        metadata = {"name": name, "namespace": self.namespace}
        self.lab.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    def store(self, name: str = "", rules: Sequence[Object] = (), **spec: Any) -> Object:
        """Apply a store; by default the one of this tenant, which lets it read below its own name."""
        name = name or self.store_name
        chosen = list(rules) or [objects.rule("own", self.namespace, self.namespace)]
        return self.lab.apply(objects.store(name, self.lab.vault_addr, chosen, **spec))[0]

    def bind(self, name: str = "voice", path: str = "key", **spec: Any) -> Object:
        """Apply a binding that reads `<namespace>/<path>`; `spec` is laid over the builder's."""
        made = objects.binding(self.namespace, name, f"{self.namespace}/{path}", self.store_name, **spec)
        return self.lab.apply(made)[0]

    def deploy(self, name: str = "agent", kind: str = "Deployment", *, wait: bool = True, **more: Any) -> Object:
        """Apply a workload (see `objects.workload`), and wait until its pods are ready."""
        made = self.lab.apply(objects.workload(self.namespace, name, kind, **more))[0]
        if wait:
            self.wait(f"{kind} {name} rolled out", lambda: self.rolled_out(name, kind))
        return made

    def patch(self, obj: Object, change: Object) -> Object:
        """Merge-patch an object, as a person with kubectl does."""
        answer: Object = self.lab.api("PATCH", self.lab.cluster.path(obj), change)
        return answer

    def edit(self, name: str = "voice", **spec: Any) -> Object:
        """Merge-patch a binding's spec; None takes a field away."""
        return self.patch(self.binding(name), {"spec": spec})

    def annotate(self, name: str, **annotations: str) -> Object:
        """Set annotations of a binding (`sync_now` is voicekeys.dev/sync-now)."""
        marks = {f"voicekeys.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        return self.patch(self.binding(name), {"metadata": {"annotations": marks}})

    def sync_now(self, name: str = "voice", value: str = "") -> str:
        """Ask for a read at once; return the annotation's value."""
        value = value or f"{time.time()}"
        self.annotate(name, sync_now=value)
        return value

    def delete(self, obj: Object, **options: Any) -> None:
        """Delete an object."""
        self.lab.api("DELETE", self.lab.cluster.path(obj), options or None)

    # ---- Vault

    def put(self, path: str = "key", **fields: Any) -> int:
        """Put a version of a key at `<namespace>/<path>`; without fields, an `api_key` that never was before."""
        made = fields or {"api_key": f"value-{self.namespace}-{next(self._puts):04d}"}
        return self.lab.put_key(f"{self.namespace}/{path}", **made)

    def change(self, path: str = "key", **fields: Any) -> int:
        """Put a new version, and tell the operator as a pipeline does."""
        version = self.put(path, **fields)
        self.notify(path)
        return version

    def notify(self, path: str = "key") -> None:
        """Tell the operator that a key has changed; the answer must be that it was believed."""
        code, text = self.operator.notify(self.store_name, f"{self.namespace}/{path}")
        assert code in {202, 404}, f"POST /notify: {code} {text}"

    def vault(self, method: str, path: str, body: Any = None) -> Any:
        """Call Vault as root; `{}` stands for the namespace, as in `secret/delete/{}/key`."""
        return self.lab.vault(method, path.replace("{}", self.namespace), body)

    def aged(self) -> None:
        """Let pods be older than the next change: one that starts in the second of a change may read either key."""
        time.sleep(1.5)

    # ---- what people see

    def path(self, kind: str, name: str) -> str:
        """The API path of an object of this namespace: bindings, core objects and workloads."""
        versions = {"VoiceKeyBinding": objects.API, **dict.fromkeys([*_APPS, "ReplicaSet"], "apps/v1")}
        metadata = {"name": name, "namespace": self.namespace}
        return self.lab.cluster.path({"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": metadata})

    def get(self, kind: str, name: str) -> Object | None:
        """An object of this namespace, None where there is none."""
        answer: Object | None = found(lambda: self.lab.api("GET", self.path(kind, name)))
        return answer

    def binding(self, name: str = "voice") -> Object:
        """A binding."""
        answer: Object = self.lab.api("GET", self.path("VoiceKeyBinding", name))
        return answer

    def bindings(self) -> list[Object]:
        """All bindings of the namespace."""
        return self._list(f"/apis/{objects.API}", "voicekeybindings")

    def store_object(self, name: str = "") -> Object:
        """A store."""
        answer: Object = self.lab.api("GET", f"/apis/{objects.API}/voicekeystores/{name or self.store_name}")
        return answer

    def data(self, name: str = "voice") -> dict[str, bytes] | None:
        """A Secret's decoded data, None where there is no such Secret."""
        secret = self.get("Secret", name)
        if secret is None:
            return None
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}

    def pods(self, app: str = "") -> list[Object]:
        """The pods, of one workload by its name."""
        every_pod = self._list("/api/v1", "pods")
        return [pod for pod in every_pod if not app or pod["metadata"].get("labels", {}).get("app") == app]

    def replica_sets(self) -> list[Object]:
        """The ReplicaSets: each is one template that a Deployment has had."""
        return self._list("/apis/apps/v1", "replicasets")

    def rolled_out(self, name: str = "agent", kind: str = "Deployment") -> bool:
        """Whether a workload's pods are all of its newest template and ready."""
        raw = self.lab.api("GET", self.path(kind, name))
        status = raw.get("status", {})
        if status.get("observedGeneration", 0) < raw["metadata"]["generation"]:
            return False
        if kind == "DaemonSet":
            wanted = status.get("desiredNumberScheduled", 0)
            return bool(wanted and wanted == status.get("updatedNumberScheduled") == status.get("numberAvailable"))
        wanted = raw["spec"]["replicas"]
        return bool(wanted == status.get("updatedReplicas", 0) == status.get("availableReplicas", 0))

    def trigger(self, name: str = "agent", kind: str = "Deployment", binding: str = "voice") -> str | None:
        """The trigger annotation of a binding on a workload's pod template."""
        raw = self.lab.api("GET", self.path(kind, name))
        annotations = raw["spec"]["template"]["metadata"].get("annotations") or {}
        value: str | None = annotations.get(f"voicekeys.dev/key.{binding}")
        return value

    def events(self, reason: str = "", name: str = "") -> list[Object]:
        """Events about our objects of this namespace, of one reason, of one binding."""
        seen = self._list("/apis/events.k8s.io/v1", "events")
        ours = [one for one in seen if one["regarding"].get("kind") in {"VoiceKeyBinding", "VoiceKeyStore"}]
        wanted = [one for one in ours if not reason or one["reason"] == reason]
        return [one for one in wanted if not name or one["regarding"]["name"] == name]

    def _list(self, root: str, plural: str) -> list[Object]:
        items: list[Object] = self.lab.api("GET", f"{root}/namespaces/{self.namespace}/{plural}")["items"]
        return items

    # ---- waiting

    def wait(self, what: str, check: Callable[[], Any], seconds: float = 60, pause: float = 0.25) -> Any:
        """Call `check` until it gives something true, and return that; AssertionError with all of the tenant else."""
        for _ in every(pause, seconds):
            if result := check():
                return result
        raise AssertionError(f"after {seconds:g} s still not: {what}\n{self.describe()}")

    def until(
        self, condition: str, status: str, reason: str = "", *, name: str = "voice", seconds: float = 60
    ) -> Object:
        """Wait for a condition of a binding, and return the binding."""

        def look() -> Object | None:
            raw = self.binding(name)
            now = condition_of(raw, condition)
            good = now is not None and now["status"] == status and (not reason or now["reason"] == reason)
            return raw if good else None

        answer: Object = self.wait(f"{name}: {condition}={status} {reason}", look, seconds)
        return answer

    def ready(self, name: str = "voice", version: int | None = None, seconds: float = 60) -> Object:
        """Wait until a binding is Ready for its newest generation (and holds this version), and return it."""

        def look() -> Object | None:
            raw = self.binding(name)
            status = raw.get("status", {})
            right = version is None or status.get("key", {}).get("version") == version
            seen = status.get("observedGeneration") == raw["metadata"]["generation"]
            return raw if right and seen and is_true(raw, "Ready") else None

        answer: Object = self.wait(f"{name} ready{f' with version {version}' if version else ''}", look, seconds)
        return answer

    def idle(self, name: str = "voice", version: int | None = None, seconds: float = 60) -> Object:
        """Wait until a binding is Ready and no pod holds an older key, and return it."""

        def look() -> Object | None:
            raw = self.ready(name, version, seconds)
            phase = raw["status"].get("rotation", {}).get("phase", "Idle")
            drained = condition_of(raw, "CallsDrained")
            return raw if phase == "Idle" and (drained is None or drained["status"] == "True") else None

        answer: Object = self.wait(f"{name} idle", look, seconds)
        return answer

    def steady(self, look: Callable[[], Any], seconds: float, what: str) -> None:
        """Hold that `look` gives the same for a while."""
        first = look()
        for _ in every(0.25, seconds):
            now = look()
            assert now == first, f"{what} changed:\n  {first}\n  {now}\n{self.describe()}"

    def describe(self) -> str:
        """All of the tenant, as a person would look at it, without values."""
        secrets = self._list("/api/v1", "secrets")
        parts: list[Any] = [*self.bindings()]
        parts += [{"secret": raw["metadata"], "keys": sorted(raw.get("data") or {})} for raw in secrets]
        for plural in _APPS.values():
            parts += [{plural: one} for one in self._list("/apis/apps/v1", plural)]
        parts += [_pod_line(pod) for pod in self.pods()]
        parts += [f"{one['type']} {one['reason']}: {one['note']}" for one in self.events()]
        text = yaml.safe_dump_all([_short(part) for part in parts], sort_keys=False, width=160)
        log = [str(line) for line in self.operator.logs() if self.namespace in str(line)][-15:]
        return text + "\n--- operator\n" + "\n".join(log)

    def check(self, *names: str) -> None:
        """Hold every binding's status against the invariants: as it is, and as it ever was where that was watched.

        `names` are the bindings, where not all of them have come to their end.
        """

        def chosen() -> list[Object]:
            return [raw for raw in self.bindings() if not names or raw["metadata"]["name"] in names]

        for _ in every(0.25, 3):
            if not any(violations(raw) for raw in chosen()):
                break
        for raw in chosen():
            check_binding(raw)
        store = found(self.store_object)
        if store is not None:
            check_store(store, finished=False)
        if self.statuses is not None:
            self.statuses.check(self.namespace)

    def close(self) -> None:
        """Take the tenant away; its pods end in the background."""
        found(lambda: self.lab.api("DELETE", f"/apis/{objects.API}/voicekeystores/{self.store_name}"))
        found(lambda: self.lab.api("DELETE", f"/api/v1/namespaces/{self.namespace}"))


def condition_of(raw: Object, kind: str) -> Object | None:
    """A condition of an object, None where it is not there."""
    conditions = raw.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), None)


def is_true(raw: Object, kind: str) -> bool:
    """Whether a condition is there and True."""
    one = condition_of(raw, kind)
    return one is not None and one["status"] == "True"


def message_of(raw: Object, kind: str) -> str:
    """A condition's message, empty where it is not there."""
    one = condition_of(raw, kind)
    return one["message"] if one else ""


def _pod_line(pod: Object) -> str:
    meta, status = pod["metadata"], pod.get("status", {})
    marks = {key: value for key, value in (meta.get("annotations") or {}).items() if "voicekeys.dev/key." in key}
    going = " terminating" if "deletionTimestamp" in meta else ""
    return f"pod {meta['name']} {meta['uid'][:8]} {status.get('phase')}{going} {marks}"


def _short(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _short(value) for key, value in part.items() if key != "managedFields"}
    return [_short(one) for one in part] if isinstance(part, list) else part
