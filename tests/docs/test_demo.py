"""The demo as a user has it: what it shows is in README, what it tells one to try works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import ROOT, blocks
from tests.docs.running import Demo
from tests.lab.demo_timeline import Facts, news
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_HAND = "Ctrl-C here ends the demo"
BY_HAND_ENDS = f"{BY_HAND} and removes all of it."


# The demo brings a lab of its own.
pytestmark = pytest.mark.own_control_plane


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


def by_hand_part(text: str) -> str:
    """How to go on, without the folders and the port of one run."""
    part = re.search(rf"^Go on by hand.*{BY_HAND}[^\n]*$", text, re.MULTILINE | re.DOTALL)
    assert part, text
    without_folder = re.sub(r"/[\w./-]*/voicekeys-lab-\w+", "…", part[0])
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", re.sub(r'PATH="[^"]*:\$PATH"', 'PATH="…:$PATH"', without_folder))


@pytest.fixture(scope="module")
def by_hand() -> Iterator[Demo]:
    """Start a demo at a terminal and wait until it tells how to go on."""
    with Demo(terminal=True) as demo:
        demo.until(BY_HAND)
        yield demo


def test_readme_shows_how_to_go_on_by_hand(by_hand: Demo) -> None:
    readme = (ROOT / "README.md").read_text()
    assert by_hand_part(readme) == by_hand_part(by_hand.until(BY_HAND_ENDS))
    assert not re.search(r"/(tmp|home|root)/", readme), "a path of one machine"


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


def test_no_key_is_shown(by_hand: Demo) -> None:
    read = "vault kv get -mount=secret -field=api_key -version={} voice/production/frejun"
    keys = [shell(by_hand, read.format(version)).strip() for version in (1, 2)]
    assert all(len(key) > 16 for key in keys)
    assert keys[0] != keys[1]
    logs = [file.read_text(errors="replace") for file in by_hand.folder.glob("voicekeys-lab-*/operator.log")]
    assert logs
    assert [key for key in keys for text in (by_hand.said, *logs) if key in text] == []


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


def test_news_are_told_once_and_in_order() -> None:
    old = Facts(secret_version="1", pods_ready=3, binding_version=1, ready=True)
    rolling = Facts(secret_version="2", trigger="d", pods_ready=3, binding_version=1, old_pods=3)
    assert [subject for subject, _ in news(old, rolling)] == ["Secret", "Ready", "rollout", "old key"]
    assert list(news(rolling, rolling)) == []
