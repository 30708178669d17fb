"""What README and operator/README.md name in the midst of a line, and in the block of verbs: each is held by something.

The words after `hatch run` must be taken by what they lead to; a verb, an option and a variable must be known and be in
the table of what holds it.
"""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from tests.bench import __main__ as bench
from tests.docs.markdown import ROOT, blocks, prose
from tests.lab import demo
from voicekeys.settings import Settings

PAGES = [ROOT / "README.md", ROOT / "operator" / "README.md"]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]["default"]["scripts"]
IN_CI = "a step of .ci/run, which test_ci.py holds"
VERBS = {
    "demo": "tests/docs/test_demo.py::test_readme_shows_what_the_demo_prints",
    "test": "this run",
    "nodes": IN_CI,
    "check": IN_CI,
    "generate": IN_CI,
    "bench": "tests/bench/test_bench.py::test_the_counts_of_a_small_run_are_exact",
}
KIND = "test_kind_makes_a_cluster_of_the_pinned_image_cordons_its_node_and_removes_it"
OPTIONS = {
    "--cluster=kind": f"tests/lab/test_clusters.py::{KIND}",
    "--cluster=current": "tests/lab/test_clusters.py::test_the_user_s_cluster_is_named_and_not_touched_without_a_yes",
}
# Beside the operator's own settings, which are in docs/options.md.
VARIABLES = {"VOICEKEYS_LAB_BIN": "tests/lab/test_binaries.py::test_the_named_folder_comes_first"}


def inline() -> list[str]:
    """The code within the pages' text, also where a line ends in it."""
    return [" ".join(each.split()) for page in PAGES for each in re.findall(r"`([^`]+)`", prose(page))]


def in_blocks() -> list[str]:
    """The lines of the pages' commands."""
    return [line for page in PAGES for each in blocks(page) if each.language == "sh" for line in each.text.splitlines()]


def hatch_commands() -> list[list[str]]:
    """The words after `hatch run`."""
    found = [re.search(r"\bhatch run (.+)", line) for line in inline() + in_blocks()]
    return [shlex.split(match[1], comments=True) for match in found if match]


def test_every_hatch_command_is_taken_by_what_it_leads_to() -> None:
    assert {verb for verb, *_ in hatch_commands()} == set(VERBS)
    assert set(VERBS) <= set(SCRIPTS)
    for verb, *arguments in hatch_commands():
        if verb == "bench":
            bench.parser().parse_args(arguments)
        elif verb == "demo":
            demo.parse(arguments)
        elif verb == "test":
            assert all(each == "-x" or (ROOT / each).exists() for each in arguments), arguments
        else:
            assert arguments == [], verb


def test_every_option_is_one_and_is_tried(pytestconfig: pytest.Config) -> None:
    assert {each for each in inline() if each.startswith("--")} == set(OPTIONS)
    for option in OPTIONS:
        name, _, value = option.partition("=")
        assert pytestconfig.getoption(name.removeprefix("--")) is not None
        assert not value or demo.parse([option]).cluster == value


def test_every_variable_is_read() -> None:
    settings = {f"VOICEKEYS_{name.upper()}" for name in Settings.model_fields}
    named = {name for text in inline() + in_blocks() for name in re.findall(r"\bVOICEKEYS_[A-Z_]+\b", text)}
    assert named - settings == set(VARIABLES)


@pytest.mark.parametrize("what", [*VERBS, *OPTIONS, *VARIABLES])
def test_what_holds_it_is_there(what: str) -> None:
    path, is_test, name = (VERBS | OPTIONS | VARIABLES)[what].partition("::")
    assert not is_test or f"def {name}(" in (ROOT / path).read_text()
