"""The demo as a user has it: what it shows is in README, what it tells one to try works, nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import ROOT, blocks
from tests.docs.running import Demo
from tests.lab import Lab
from tests.lab.demo_timeline import Facts, news
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATOR_RUNS = "runs here, as ServiceAccount"
EXAMPLES_APPLIED = "kubectl apply -k deploy/examples/"
BY_HAND = "Ctrl-C here ends the demo"


# The demo brings a lab of its own; the run's is asked for because its binaries are built before any test's time runs.
pytestmark = pytest.mark.usefixtures("lab")


def normal(line: str) -> str:
    """A line without what differs from run to run: numbers, generated names, spaces."""
    line = re.sub(r"(receptionist)-[0-9a-z]+-[0-9a-z]+", r"\1-…", line)
    line = re.sub(r"\b\d+m\d+s\b|\b\d+(\.\d+)?(e\+\d+)?", "N", line)
    return " ".join(line.split())


def told(text: str) -> list[str]:
    """The normal lines of a demo's output; the one about binaries depends on the machine."""
    lines = [normal(line) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("lab binaries:")]


def test_readme_shows_what_the_demo_prints() -> None:
    (transcript,) = (
        block.text for block in blocks(ROOT / "README.md") if block.language == "text" and "  Vault " in block.text
    )
    with Demo("--exit") as demo:
        assert demo.end() == 0, demo.said
        demo.wait_for_nothing()
    # Events that run side by side may come in another order: each subject's own lines must not.
    assert sorted(told(demo.said)) == sorted(told(transcript)), demo.said
    for subject in ("Vault", "Secret", "Ready", "old key", "rollout"):
        of_subject = rf"N s {subject} "
        assert [line for line in told(demo.said) if re.match(of_subject, line)] == [
            line for line in told(transcript) if re.match(of_subject, line)
        ]
    olds = re.findall(r"pods on the old key: (\d)", demo.said)
    assert olds == ["3", "2", "1", "0"]


@pytest.fixture(scope="module")
def by_hand() -> Iterator[Demo]:
    """Start a demo at a terminal and wait until it tells how to go on."""
    with Demo(terminal=True) as demo:
        demo.until(BY_HAND)
        yield demo


def shell(demo: Demo, commands: str) -> str:
    """Run commands as the demo prints them, with its exports before them."""
    exports = "\n".join(re.findall(r"^export .*$", demo.said, re.MULTILINE))
    env = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "VAULT_ADDR", "VAULT_TOKEN"}}
    script = f"set -eu\n{exports}\n{commands}"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def step(demo: Demo, title: str) -> list[str]:
    """The commands below a title like `# 2.`."""
    found = re.search(rf"^# {re.escape(title)}.*\n((?:.+\n)+)", demo.said, re.MULTILINE)
    assert found, demo.said
    return found[1].splitlines()


def status(demo: Demo, jsonpath: str) -> str:
    return shell(demo, f"kubectl -n voice-prod get vkb frejun -o jsonpath='{{{jsonpath}}}'")


def condition(demo: Demo, kind: str) -> str:
    return status(demo, f'.status.conditions[?(@.type=="{kind}")].status')


def test_by_hand_version_3_arrives_in_every_pod(by_hand: Demo) -> None:
    shell(by_hand, "\n".join(step(by_hand, "1.")))
    eventually(
        lambda: status(by_hand, ".status.history[-1:].toVersion") == "3", "version 3 in use", seconds=60, pause=0.5
    )
    assert condition(by_hand, "Ready") == "True"


def test_by_hand_a_sealed_vault_takes_nothing_away(by_hand: Demo) -> None:
    seal, unseal = step(by_hand, "3.")
    shell(by_hand, seal)
    eventually(lambda: condition(by_hand, "SourceReachable") == "False", "Vault seen as sealed", seconds=60, pause=0.5)
    assert condition(by_hand, "Ready") == "True"
    shell(by_hand, unseal)
    eventually(lambda: condition(by_hand, "SourceReachable") == "True", "Vault seen again", seconds=90, pause=0.5)


def test_by_hand_a_key_on_which_no_pod_starts_is_taken_back(by_hand: Demo) -> None:
    cordon, put, uncordon = step(by_hand, "2.")
    shell(by_hand, f"{cordon}\n{put}")
    eventually(lambda: condition(by_hand, "Stalled") == "True", "rolled back", seconds=90, pause=0.5)
    version = r"{.metadata.annotations.voicekeys\.dev/key-version}"
    restored = f"kubectl -n voice-prod get secret frejun-api-key -o jsonpath='{version}'"
    eventually(lambda: shell(by_hand, restored) == "3", "the Secret has version 3 again", pause=0.5)
    ready = "kubectl -n voice-prod get deployment receptionist -o jsonpath='{.status.readyReplicas}'"
    assert shell(by_hand, ready) == "3"
    shell(by_hand, uncordon)


def test_ctrl_c_ends_it_all(by_hand: Demo) -> None:
    assert by_hand.end(signal.SIGINT) == 0, by_hand.said
    by_hand.wait_for_nothing()


def test_a_kill_in_the_middle_leaves_no_process() -> None:
    with Demo("--exit") as demo:
        demo.until(OPERATOR_RUNS)
        assert any("kube-apiserver" in each for each in demo.left())
        assert demo.end(signal.SIGKILL) == -signal.SIGKILL
        demo.wait_for_nothing()


def test_sigterm_ends_it_and_a_borrowed_cluster_is_as_before() -> None:
    with Lab.start(nodes=0, say=lambda _line: None) as host:
        before = everything(host)
        with Demo("--exit", "--cluster=current", "--yes", env={"KUBECONFIG": str(host.kubeconfig)}) as demo:
            demo.until(EXAMPLES_APPLIED)
            assert everything(host) != before
            assert demo.end(signal.SIGTERM) == 128 + signal.SIGTERM, demo.said
            demo.wait_for_nothing()
        # The lab's own namespace goes in the background.
        eventually(lambda: everything(host) == before, "the cluster as before")


def test_a_borrowed_cluster_with_a_namespace_of_that_name_is_not_touched() -> None:
    with Lab.start(nodes=0, scheduler=False, say=lambda _line: None) as host:
        host.make_namespace("voicekeys-system")
        with Demo("--exit", "--cluster=current", "--yes", env={"KUBECONFIG": str(host.kubeconfig)}) as demo:
            assert demo.end() == 1
            assert "this cluster has Namespace voicekeys-system already" in demo.said
        assert "voicekeys" not in host.kubectl("get", "crds,clusterroles", "-o", "name")
        host.kubectl("get", "namespace", "voicekeys-system")


def everything(host: Lab) -> set[str]:
    """Names of what the demo could leave in a cluster; Vault's reviewer is the lab's own, of both labs."""
    kinds = "namespaces,crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,priorityclasses,nodes"
    listed = host.kubectl("get", kinds, "-o", "name").split()
    return {each for each in listed if "voicekeys-lab-vault" not in each}


def test_news_are_told_once_and_in_order() -> None:
    old = Facts(secret_version="1", pods_ready=3, binding_version=1, ready=True)
    rolling = Facts(secret_version="2", trigger="d", pods_ready=3, binding_version=1, old_pods=3)
    assert [subject for subject, _ in news(old, rolling)] == ["Secret", "Ready", "rollout", "old key"]
    assert list(news(rolling, rolling)) == []
