"""`hatch run demo`: a key put into Vault reaches running agents, on a real API server and a real Vault, as one watches.

It stands on the same lab as the tests. Everything that it starts belongs to the lab's supervisor, and so ends with
this process, however this process ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import prepare, silent
from tests.lab.clusters import CHOICES, open_lab
from tests.lab.controlplane import FAKE_NODE
from tests.lab.demo_install import (
    ACCOUNT,
    KEY_PATH,
    Installation,
    changes_of_examples,
    example_objects,
    operator_objects,
    start_operator,
    trust_vault,
)
from tests.lab.demo_timeline import AGENT, NAMESPACE, Facts, Screen, Timeline
from tests.lab.http import ApiError
from tests.lab.processes import LabError, eventually
from voicekeys import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab import Lab

METRICS = (
    "voicekeys_binding_ready",
    "voicekeys_pods_on_old_key",
    "voicekeys_rotation_last_success_timestamp_seconds",
    "voicekeys_vault_identities",
    "voicekeys_vault_requests_total",
)
REPLICAS = 3


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 is its orderly end, 1 a failure, 128 + n an end by signal n before it was done."""
    options = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    screen = Screen()
    try:
        run(options, screen)
    except KeyboardInterrupt:
        screen.plain("\ninterrupted: everything was stopped and removed")
        return 128 + signal.SIGINT
    except (LabError, ApiError, OSError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="hatch run demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cluster",
        choices=CHOICES,
        default="lab",
        help="a control plane of its own (lab, the default), kind (needs Docker), or the current context of your "
        "kubeconfig (asks first)",
    )
    parser.add_argument("--yes", action="store_true", help="with --cluster=current: do not ask")
    parser.add_argument("--exit", action="store_true", help="end by itself instead of waiting for Ctrl-C")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Show it all, from an empty machine to an empty machine. Raises LabError with what went wrong."""
    began = time.monotonic()
    screen.plain(f"voicekeys {__version__}: a key put into Vault reaches running voice agents")
    prepare(options.cluster, assume_yes=options.yes)
    built = time.monotonic() - began
    screen.start_clock()
    parents = ancestors()

    def goes_on() -> None:
        if ancestors() != parents:
            raise LabError("the process that started the demo is gone")

    screen.event("lab", "starting")
    with open_lab(options.cluster, say=silent, vault_tls=True) as lab:
        screen.event("lab", f"Kubernetes {lab.api('GET', '/version')['gitVersion']} and Vault {vault_version(lab)} run")
        installation = Installation(lab, lasting=options.cluster == "current")
        try:
            show(lab, screen, Timeline(lab, screen, goes_on), installation)
            total = time.monotonic() - began
            screen.plain(f"\ntotal time: {total:.0f} s" + (f", {built:.0f} s of it to build" if built > 10 else ""))
            if sys.stdin.isatty() and not options.exit:
                explain(lab, screen, simulated=options.cluster != "current")
                wait(lab, goes_on)
        finally:
            no_signals()
            installation.remove()
            screen.plain("\nstopping and removing everything")


def show(lab: Lab, screen: Screen, timeline: Timeline, installation: Installation) -> None:
    """Install, put two versions of a key, and print what happens."""
    count = installation.apply(operator_objects(lab))
    screen.event("install", f"kubectl apply -k deploy/: {count} objects, the Deployment at 0 replicas")
    port = start_operator(lab)
    screen.event("operator", f"runs here, as ServiceAccount {ACCOUNT} with no right but its own")
    role = trust_vault(lab)
    put(lab, screen)
    simulated = not installation.lasting
    count = installation.apply(example_objects(lab, role, simulated=simulated))
    screen.event("install", f"kubectl apply -k deploy/examples/: {count} objects")
    screen.event("", f"changed: {changes_of_examples(simulated=simulated)}")
    timeline.until(lambda now: settled(now, 1), "the first version in place")
    screen.event("agents", f"{REPLICAS} pods of Deployment {AGENT} serve with it; none was restarted")
    put(lab, screen)
    timeline.until(lambda now: settled(now, 2) and bool(now.changes), "the second version in place")
    eventually(lambda: count_pods(lab) == REPLICAS, "the old pods' objects gone", seconds=60)
    screen.title(f"kubectl -n {NAMESPACE} get vkb,secret,pods")
    screen.plain(lab.kubectl("-n", NAMESPACE, "get", "vkb,secret,pods"))
    screen.title("some of the operator's metrics")
    screen.plain("\n".join(metrics(port)))


def ancestors() -> tuple[int, int]:
    """Return the ids of the parent and of its parent: `hatch run` has a shell between itself and the demo."""
    parent = os.getppid()
    try:
        # "pid (command) state parent …", where the command may hold anything.
        stat = Path(f"/proc/{parent}/stat").read_text()
    except OSError:
        return parent, 0
    return parent, int(stat.rpartition(")")[2].split()[1])


def put(lab: Lab, screen: Screen) -> None:
    """Put a new random key; its value is shown nowhere."""
    version = lab.put_key(KEY_PATH, api_key=secrets.token_urlsafe(24))
    screen.event("Vault", f"version {version} of secret/{KEY_PATH} put")


def settled(now: Facts, version: int) -> bool:
    """Tell whether a version is in place and no pod holds an older one."""
    return (
        now.ready
        and now.binding_version == version
        and now.secret_version == str(version)
        and now.old_pods == 0
        and now.pods_ready == REPLICAS
    )


def count_pods(lab: Lab) -> int:
    """Count the pods of the namespace."""
    return len(lab.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"])


def metrics(port: int) -> Iterator[str]:
    """Yield the lines of the operator's metrics that tell of the change."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(METRICS):
                yield line


def vault_version(lab: Lab) -> str:
    """Return the version of the lab's Vault."""
    return str(lab.vault("GET", "sys/health")["version"])


def explain(lab: Lab, screen: Screen, *, simulated: bool) -> None:
    """Print how to go on by hand. Tokens are in files of the lab's folder, not on the screen."""
    for name, text in (("vault-token", lab.vault_token), ("unseal-key", lab.vault._unseal_key)):
        file = lab.dir / name
        file.touch(mode=0o600)
        file.write_text(text)
    folders = dict.fromkeys(str(lab.binaries[name].parent) for name in ("kubectl", "vault"))
    screen.title("Go on by hand, in another terminal:")
    screen.plain(f"""\
export PATH="{":".join(folders)}:$PATH"
export KUBECONFIG={lab.kubeconfig}
export VAULT_ADDR={lab.vault_addr} VAULT_CACERT={lab.vault.ca_file}
export VAULT_TOKEN="$(cat {lab.dir}/vault-token)"

# What the operator logs, and what you see:
tail -f {lab.dir}/operator.log
kubectl -n {NAMESPACE} get vkb -w

# 1. Put version 3:
vault kv put -mount=secret {KEY_PATH} api_key="$(openssl rand -hex 16)"
""")
    if simulated:
        selector = ",".join(f"{key}={value}" for key, value in FAKE_NODE.items())
        screen.plain(f"""
# 2. A key with which no new pod gets ready (nodes take none): after 30 s the operator goes back to the one before.
kubectl cordon -l {selector}
vault kv put -mount=secret {KEY_PATH} api_key="$(openssl rand -hex 16)"
kubectl uncordon -l {selector}   # when it has gone back""")
    screen.plain(f"""
# {3 if simulated else 2}. Seal Vault: the agents keep their key, Ready stays True, SourceReachable turns False.
vault operator seal
vault operator unseal "$(cat {lab.dir}/unseal-key)"

Ctrl-C here ends the demo and removes all of it.""")


def wait(lab: Lab, goes_on: Callable[[], None]) -> None:
    """Wait for Ctrl-C. Raises LabError when a part of the lab ends by itself."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.5)
            goes_on()
            lab.processes.check()


def no_signals() -> None:
    """Take no notice of further signals: the end has begun."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
