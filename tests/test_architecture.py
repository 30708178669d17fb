"""The shape of the project, held by tests: layout, layers, sizes, documentation, purity, cleanliness.

A number in the way of clear code may be passed over, with the reason in the file: ``# long file: …`` anywhere in it,
``# long function: …`` inside the function.
"""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grimp
import pytest

import voicekeys

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "voicekeys"

VISIBLE = {
    "pyproject.toml",
    "operator",
    "deploy",
    "crds",
    "tests",
    "Dockerfile",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
}
LONGEST_FILE, MEDIAN_FILE = 400, 150
LONGEST_FUNCTION, MEDIAN_FUNCTION, P95_FUNCTION = 60, 10, 40
LONGEST_HANDLER = 15
TESTS_TO_CODE = 1.5

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Defined(NamedTuple):
    """A function of the package; ``where`` names it for people."""

    where: str
    path: Path
    node: Function
    lines: int


@cache
def sources() -> dict[Path, str]:
    """Every module of the package and its text."""
    return {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def functions() -> list[Defined]:
    """Every function and method of the package; a nested one is part of its outer one."""
    return [
        Defined(
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", path, node, (node.end_lineno or 0) - node.lineno + 1
        )
        for path, text in sources().items()
        for scope in _scopes(ast.parse(text))
        for node in scope.body
        if isinstance(node, Function)
    ]


def _scopes(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef]:
    yield tree
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


@cache
def project_files() -> list[Path]:
    """Every file that is, or is about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return sorted({path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()})


def reason(kind: str, text: str) -> bool:
    """Whether a text states why a limit is passed over."""
    return re.search(rf"# {kind}: \S.{{9}}", text) is not None


# ---- layout


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in project_files()}
    assert {name for name in names if not name.startswith(".")} == VISIBLE
    assert {name for name in names if name.startswith(".")} <= {".ci", ".github", ".gitignore", ".dockerignore"}


def test_the_source_root_never_shadows_the_standard_library() -> None:
    """``operator`` is a module of the standard library: an ``__init__.py`` here would take its place."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not list((ROOT / "operator").glob("*.py*"))


def test_the_base_distribution_needs_nothing_but_python() -> None:
    """Agents install ``voicekeys`` alone: importing it must not pull in a package that they may not have."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import voicekeys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert foreign - {"__main__"} == {"voicekeys"}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"] == []


# ---- layers


def test_imports_point_down_only() -> None:
    # In a process of its own: it sets logging up anew, which makes every logger deaf that is there already.
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_layer() -> None:
    """What no layer names, nothing guards."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name.strip() for layer in layers for name in layer.split("|")}
    present = {f"voicekeys.{path.stem}" for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert present - {"voicekeys.__init__", "voicekeys.__pycache__", "voicekeys.settings"} == named


def test_no_two_modules_import_each_other() -> None:
    graph = grimp.build_graph("voicekeys", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, with the cycle


# ---- sizes


def test_no_file_is_longer_than_a_reader_s_patience() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path, text in sources().items()
        if (lines := len(text.splitlines())) > LONGEST_FILE and not reason("long file", text)
    }
    assert long == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{one.where}: {one.lines}"
        for one in functions()
        if one.lines > LONGEST_FUNCTION
        and not reason("long function", ast.get_source_segment(sources()[one.path], one.node) or "")
    ]
    assert long == []


def test_files_and_functions_are_short_as_a_rule() -> None:
    files = [len(text.splitlines()) for path, text in sources().items() if path.name != "__init__.py"]
    lengths = sorted(one.lines for one in functions())
    assert statistics.median(files) <= MEDIAN_FILE
    assert statistics.median(lengths) <= MEDIAN_FUNCTION
    assert lengths[int(len(lengths) * 0.95)] <= P95_FUNCTION


def test_there_is_more_test_than_code() -> None:
    code = sum(len(text.splitlines()) for text in sources().values())
    tests = sum(len(path.read_text().splitlines()) for path in project_files() if _is_test(path))
    assert tests >= TESTS_TO_CODE * code


def _is_test(path: Path) -> bool:
    return path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "tests"


def test_handlers_only_hand_over() -> None:
    """Design §3: at the edge events go in and keys of work come out."""
    handlers = [one for one in functions() if one.path.parent.name == "handlers" and _takes_events(one.node)]
    assert handlers
    assert [one.where for one in handlers if _own_lines(one.node) > LONGEST_HANDLER] == []


def _takes_events(node: Function) -> bool:
    """kopf calls with ``event=``, aiohttp's routes take a request and give an answer."""
    names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    answers = ast.unparse(node.returns) if node.returns else ""
    return "event" in names or (names >= {"self", "request"} and answers.startswith("web."))


def _own_lines(node: Function) -> int:
    """Lines without signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1


# ---- documentation


def is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A property is documented where it is read."""
    return any(isinstance(one, ast.Attribute) and one.attr == "setter" for one in node.decorator_list)


def test_everything_public_is_documented() -> None:
    bare = [str(path.relative_to(ROOT)) for path, text in sources().items() if not ast.get_docstring(ast.parse(text))]
    for path, text in sources().items():
        tree = ast.parse(text)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        public = [node for node in classes if not node.name.startswith("_")]
        scopes: list[ast.Module | ast.ClassDef] = [tree, *public]
        members = [
            node for scope in scopes for node in scope.body if isinstance(node, Function) and not is_setter(node)
        ]
        documented = [*public, *(node for node in members if not node.name.startswith("_"))]
        bare += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}" for node in documented if not ast.get_docstring(node)
        ]
    assert bare == []


# ---- purity


def test_only_the_top_logs() -> None:
    """Beneath the reconcilers all is written as a library: an error says what, where, for which input."""
    logging = {"logging", "structlog"}
    found = [
        str(path.relative_to(PACKAGE))
        for path, text in sources().items()
        if path.relative_to(PACKAGE).parts[0] in {"policies", "clients", "model", "api"} and _imported(text) & logging
    ]
    assert found == []


def _imported(text: str) -> set[str]:
    """Top-level names of what a module imports, whether for types only or not."""
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    of = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | of}


IMPURE = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "sleep", "random", "open", "print", "input"}


def test_policies_take_time_and_dice_as_arguments() -> None:
    """Time comes in as ``now``, chance as a generator; a policy waits for nothing and tells nobody."""
    found = []
    for path, text in sources().items():
        if path.parent.name != "policies":
            continue
        for node in ast.walk(ast.parse(text)):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in IMPURE or isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global):
                found.append(f"{path.name}:{getattr(node, 'lineno', 0)} {name or type(node).__name__}")
    assert found == []


def test_policies_and_model_are_covered_in_every_branch() -> None:
    """By their own tests alone: a subprocess measures them, with few examples where hypothesis makes them."""
    data = f"--data-file={ROOT / '.coverage.policies'}"
    only = ["--branch", "--source=voicekeys.policies,voicekeys.model"]
    tests = [
        "tests/policies",
        "tests/model",
        "--ignore=tests/policies/test_selects_on_a_cluster.py",
        "-q",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=few",
    ]
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", data, *only, "-m", "pytest", *tests]
    try:
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        report = [*coverage, "report", data, "--show-missing", "--skip-covered", "--fail-under=100"]
        shown = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stdout + shown.stderr
    finally:
        (ROOT / ".coverage.policies").unlink(missing_ok=True)


# ---- cleanliness

MACHINE_PATH = re.compile(r"(?<![\w.:}\])-])/(?:root|work|Users|home/[a-z]\w*)/")
DOWNLOAD = re.compile(
    r"https?://[\w.-]*(?:pypi|pythonhosted|index|mirror|artifactory|nexus|proxy\.golang|registry)[\w.-]*"
    r"|--(?:extra-)?index-url[= ]\S|\bGOPROXY=\S*http",
    re.IGNORECASE,
)


PLANTED = {
    "see /root/x": True,
    'path = "/work/main/x"': True,
    "cd /home/alice/src": True,
    "file:///Users/alice/x": True,
    "pip install --index-url https://example.com/simple": True,
    "https://pypi.org/simple/kopf": True,
    "https://files.pythonhosted.org/packages/x.whl": True,
    "ENV GOPROXY=https://example.com": True,
    "https://vault.example.com:8200": False,
    "https://github.com/nolar/kopf": False,
    "workingDir: /home/voicekeys": False,
    "frameworks/work/x": False,
    "uv pip compile --no-emit-index-url": False,
}


@pytest.mark.parametrize(("line", "caught"), PLANTED.items())
def test_what_counts_as_a_machine_s_path_or_a_download(line: str, caught: bool) -> None:  # noqa: FBT001
    assert bool(MACHINE_PATH.search(line) or DOWNLOAD.search(line)) is caught


def test_no_file_names_a_machine_or_a_place_to_download_from() -> None:
    found = []
    for path in project_files():
        text = path.read_text(errors="replace") if path != Path(__file__) else ""
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or DOWNLOAD.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_pinned_requirements_hold_hashes_and_no_address() -> None:
    files = sorted((ROOT / "deploy" / "requirements").glob("*.txt"))
    assert [path.name for path in files] == ["build.txt", "dev.txt", "operator.txt"]
    for path in files:
        text = path.read_text()
        assert "://" not in text
        entries = re.split(
            r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
        )
        assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_lock_files_that_record_addresses_are_not_kept() -> None:
    names = {path.name for path in project_files()}
    assert not {name for name in names if name == "uv.lock" or name.startswith("pylock")}


def test_the_version_has_one_source() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", voicekeys.__version__)
