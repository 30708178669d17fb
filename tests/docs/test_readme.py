"""What README and the pages for whoever installs voicekeys say: commands run, YAML applies, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.docs.markdown import ROOT, Block, anchors, blocks, commands, links
from tests.docs.releases import next_version
from tests.docs.site import Site
from tests.lab.processes import eventually, every
from voicekeys.api.binding import parse_binding_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = ROOT / "README.md"
DOCS = ROOT / "operator" / "docs"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "crds" / "REFERENCE.md",
    *sorted((ROOT / "operator").glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "operator" / "decisions").glob("*.md")),
]
TRY_IT = "python3 -m venv .venv && .venv/bin/pip install hatch && .venv/bin/hatch run "

REGISTRY = "registry.example.com/voicekeys/operator"
ESO = """kubectl -n voice-prod patch externalsecret frejun --type merge -p \\
  '{"spec":{"refreshInterval":"0","target":{"creationPolicy":"Orphan","deletionPolicy":"Retain"}}}'"""
ALERTS = ROOT / "operator" / "ALERTS.md"
BUILT = ROOT / "operator" / "README.md"
# The pages whose blocks are run.
RUN = (README, BUILT, ALERTS, *DOCS.glob("*.md"))
OPERATOR_LOGS = "kubectl -n voicekeys-system logs -l app.kubernetes.io/name=voicekeys"
NO_DOCKER = "needs Docker, as CI has it; tests/nodes builds it by buildah"
NO_LOGS = "simulated nodes have no kubelet that could give a pod's logs"
IN_CI = "a step of .ci/run, which test_ci.py holds"
NO_REGISTRY = "needs a registry"
# Whole commands; all others of all pages are run, which test_every_command_was_run holds.
NOT_RUN = {
    f"{TRY_IT}demo": "test_demo.py runs what it runs, and test_the_two_commands_are_ci_s holds the words",
    f"{TRY_IT}test": "it is this run; .ci/run calls it by these words",
    f"docker build -t {REGISTRY}:0.1.0 .": NO_DOCKER,
    f"docker push {REGISTRY}:0.1.0": NO_REGISTRY,
    f"docker build -t {REGISTRY}:0.2.0 .": NO_DOCKER,
    f"docker push {REGISTRY}:0.2.0": NO_REGISTRY,
    "vault write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc:443": "for a Vault in a pod, "
    "which takes the CA from the files of its own ServiceAccount",
    ESO: "needs the External Secrets Operator",
    "kubectl -n voice-prod delete externalsecret frejun --cascade=orphan": "needs the External Secrets Operator",
    "kubectl -n voice-prod delete vaultstaticsecret frejun --cascade=orphan": "needs the Vault Secrets Operator",
    f"{OPERATOR_LOGS} --tail=200": NO_LOGS,
    f"{OPERATOR_LOGS} --tail=100": NO_LOGS,
    f"{OPERATOR_LOGS} --previous --tail=50": NO_LOGS,
    "python3 -m venv .venv && .venv/bin/pip install hatch": "the first half of README's two commands",
    ".venv/bin/hatch run test                            # everything, on a lab of real parts": "it is this run",
    ".venv/bin/hatch run test tests/policies -x          # a part": "test_inline.py holds the words",
    ".venv/bin/hatch run nodes                           # live calls on real kubelets, as root": IN_CI,
    ".venv/bin/hatch run check                           # ruff, mypy, import-linter": IN_CI,
    ".venv/bin/hatch run generate                        # the generated pages; --check only looks": IN_CI,
    ".venv/bin/hatch run bench sync --bindings 1000 --paths 100": "minutes; test_bench.py runs a smaller one, and "
    "test_inline.py holds the words",
    ".venv/bin/hatch run bench drain --rotations 2       # real calls while a key changes, as root": "minutes; "
    "tests/nodes/test_bench_drain.py runs one change",
    ".venv/bin/hatch run demo                            # and then by hand": "test_demo.py runs it",
}
LATER, BROKEN = "0.2.0", "0.2.1"
# How long after a new operator has looked at a binding a restart by it would have begun: `propagation` and a bit.
RESTART_SECONDS = 15


def shell_blocks(page: Path) -> list[Block]:
    """The blocks of commands of a page."""
    return [each for each in blocks(page) if each.language == "sh"]


def yaml_blocks(page: Path) -> list[Block]:
    return [each for each in blocks(page) if each.language == "yaml"]


# ---- the words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}: {sorted(anchors(target))}"


def test_every_exception_is_still_in_a_page() -> None:
    assert set(NOT_RUN) <= set(_commands())


def _commands() -> list[str]:
    """Every command of every page."""
    return [one for page in RUN for each in shell_blocks(page) for one in commands(each.text)]


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "yaml", "text", "mermaid"}
    assert [str(each) for page in RUN for each in blocks(page) if each.language not in known] == []


def test_the_two_commands_are_ci_s_and_lead_to_hatch_s_verbs() -> None:
    commands = [each.text.strip() for each in blocks(README) if each.text.startswith(TRY_IT)]
    assert commands == [f"{TRY_IT}demo", f"{TRY_IT}test"]
    assert f"{TRY_IT}test" in (ROOT / ".ci" / "run").read_text()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]["default"]["scripts"]
    assert scripts["demo"] == "python -m tests.lab.demo {args}"
    assert scripts["test"].startswith("python -m pytest ")


@pytest.mark.parametrize("page", [README, ROOT / "operator" / "README.md"], ids=["README", "operator/README"])
def test_every_verb_of_hatch_is_there(page: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]["default"]["scripts"]
    verbs = set(re.findall(r"hatch run (\w+)", page.read_text()))
    assert {"demo", "test"} <= verbs <= set(scripts)


def test_readme_has_every_alert_with_its_severity() -> None:
    groups = yaml.safe_load((ROOT / "deploy/alerts/voicekeys.rules.yaml").read_text())["groups"]
    rules = {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]}
    rows = re.findall(r"^\| \[`(\w+)`\]\(operator/ALERTS\.md#(\w+)\) \| (\w+) \|", README.read_text(), re.MULTILINE)
    assert {name: severity for name, _, severity in rows} == rules
    assert all(anchor == name.lower() for name, anchor, _ in rows)


def test_readme_s_binding_shows_the_defaults() -> None:
    (binding, store, drain) = (yaml.safe_load(each.text) for each in yaml_blocks(README))
    assert parse_binding_spec(binding["spec"] | drain).agents[0].drain is not None
    schema = _schema("voicekeybindings")
    for section in ("rollout", "source", "target"):
        for field, value in binding["spec"][section].items():
            default = schema["properties"][section]["properties"][field].get("default", value)
            assert default in (value, {}), f"{section}.{field}"
    assert store["spec"]["poll"]["readsPerSecond"] == 10
    examples = ROOT / "deploy" / "examples"
    assert (
        binding["spec"]["source"]["path"]
        == yaml.safe_load((examples / "binding.yaml").read_text())["spec"]["source"]["path"]
    )


def _schema(plural: str) -> Any:
    crd = yaml.safe_load((ROOT / "crds" / f"voicekeys.dev_{plural}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


# ---- the commands, on a lab of their own


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """The commands of the pages that this module's tests have run."""
    return set()


@pytest.fixture(scope="module")
def site(own_control_plane: None, ran: set[str]) -> Iterator[Site]:  # noqa: ARG001
    """Follow README's five minutes; the other pages begin where they end."""
    with Site(NOT_RUN, ran) as started:
        for block in shell_blocks(README):
            started.run(block)
        yield started


def generation(site: Site) -> str:
    return site.jsonpath("deployment", "receptionist", "-n", "voice-prod", path="{.metadata.generation}")


def test_five_minutes_end_with_the_second_key_in_every_pod(site: Site) -> None:
    status = json.loads(site.lab.kubectl("-n", "voice-prod", "get", "vkb", "frejun", "-o", "json"))["status"]
    assert status["key"]["version"] == 2
    assert {each["type"]: each["status"] for each in status["conditions"]}["Ready"] == "True"
    annotation = r"{.metadata.annotations.voicekeys\.dev/key-version}"
    assert site.jsonpath("secret", "frejun-api-key", "-n", "voice-prod", path=annotation) == "2"
    # Made, and restarted once.
    assert generation(site) == "2"


@pytest.mark.parametrize(
    "page", [README, DOCS / "gitops.md", DOCS / "rbac.md", DOCS / "migrate.md"], ids=lambda p: p.name
)
def test_yaml_is_what_the_api_server_takes(site: Site, page: Path) -> None:
    for block in yaml_blocks(page):
        if "apiVersion" in block.text:  # a part of an object is held by a test of its own
            site.apply(block.text, dry_run=True)


def test_gitops_commands(site: Site) -> None:
    site.lab.make_namespace("argocd")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    site.lab.apply(config_map)
    for block in shell_blocks(DOCS / "gitops.md"):
        site.run(block)
    assert "VoiceKeyBinding" in site.jsonpath("configmap", "argocd-cm", "-n", "argocd", path="{.data}")


def test_the_alerts_commands_and_the_key_that_one_of_them_puts(site: Site) -> None:
    binding = ("vkb", "frejun", "-n", "voice-prod")
    before = int(site.jsonpath(*binding, path="{.status.key.version}"))
    # The newest one: those of before may be on their way out.
    names = site.jsonpath(
        "pods", "-n", "voice-prod", "--sort-by=.metadata.creationTimestamp", path="{.items[*].metadata.name}"
    )
    pod = names.split()[-1]
    # What a person has of the alert, and of what an earlier command has printed.
    labels = {"NS": "voice-prod", "NAME": "frejun", "STORE": "default"}
    looked_up = {"POD": pod, "KEY_PATH": "voice/production/frejun", "FIELD": "api_key", "NEW_KEY": "a-new-key-by-hand"}
    site.variables |= labels | looked_up
    printed = "".join(site.run(block) for block in shell_blocks(ALERTS))
    for name in labels | looked_up:
        del site.variables[name]
    for told in ('voice/production/frejun {"FREJUN_API_KEY":"api_key"}', "bound_service_account_names", "Sealed"):
        assert told in printed
    assert "a-new-key-by-hand" not in printed
    rules = (site.folder / "my-voicekeys.rules.yaml").read_text()
    assert rules.count("https://git.example.com/") == rules.count("runbook_url:") == rules.count("- alert:")
    done = "{.status.key.version} {.status.rotation.phase}"
    eventually(lambda: site.jsonpath(*binding, path=done) == f"{before + 1} Idle", "the key in every pod", 90)


def test_backup_and_restore_change_nothing(site: Site) -> None:
    before = generation(site)
    digest = r"{.metadata.annotations.voicekeys\.dev/digest}"
    kept = site.jsonpath("secret", "frejun-api-key", "-n", "voice-prod", path=digest)
    for block in shell_blocks(DOCS / "backup.md"):
        site.run(block)
    site.run("kubectl -n voice-prod annotate vkb frejun voicekeys.dev/sync-now=after-restore --overwrite")
    handled = "{.status.handled.syncNow}"
    eventually(
        lambda: site.jsonpath("vkb", "frejun", "-n", "voice-prod", path=handled) == "after-restore",
        "seen to by the operator",
    )
    assert generation(site) == before
    assert site.jsonpath("secret", "frejun-api-key", "-n", "voice-prod", path=digest) == kept


def upgrade(site: Site, version: str, edits: dict[str, tuple[str, str]]) -> None:
    """Go to a version as the page says, and wait until the operator of that version has looked at the binding."""
    site.origin.release(version, edits)
    *page, _ = shell_blocks(DOCS / "upgrade.md")
    for block in page:
        kept = "\n".join(one for one in commands(block.text) if one not in NOT_RUN)
        site.run(block if version == LATER else kept.replace(LATER, version))
    # Both replicas' pods are of the new template, from the user's own registry, and so is the operator.
    image = "{.items[*].spec.containers[0].image}"
    live = ("pods", "-n", "voicekeys-system", "--field-selector=status.phase=Running")
    eventually(lambda: set(site.jsonpath(*live, path=image).split()) == {f"{REGISTRY}:{version}"}, "the new image")
    (started,) = (json.loads(line) for line in site.log().splitlines() if '"started"' in line)
    assert started["version"] == version
    site.run(f"kubectl -n voice-prod annotate vkb frejun voicekeys.dev/sync-now=after-{version} --overwrite")
    handled = "{.status.handled.syncNow}"
    eventually(
        lambda: site.jsonpath("vkb", "frejun", "-n", "voice-prod", path=handled) == f"after-{version}",
        "seen to by the new operator",
    )


def agents(site: Site) -> tuple[str, ...]:
    """The agents' template, by its generation and revision, and their pods."""
    pods = site.jsonpath("pods", "-n", "voice-prod", path="{.items[*].metadata.uid}").split()
    revision = r"{.metadata.annotations.deployment\.kubernetes\.io/revision}"
    told = site.jsonpath("deployment", "receptionist", "-n", "voice-prod", path=revision)
    return (generation(site), told, *sorted(pods))


def test_upgrade_restarts_no_agent(site: Site) -> None:
    before = agents(site)
    upgrade(site, LATER, next_version(LATER))
    for _ in every(0.5, RESTART_SECONDS):
        assert agents(site) == before
    # The CRDs are the new ones, too.
    crd = ("crd", "voicekeybindings.voicekeys.dev")
    assert site.jsonpath(*crd, path=r"{.metadata.annotations.voicekeys\.dev/version}") == LATER
    field = "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.later.type}"
    assert site.jsonpath(*crd, path=field) == "string"


def test_an_upgrade_that_restarts_agents_would_be_seen(site: Site) -> None:
    """The measure of the test before: a version whose trigger has another value for the same data."""
    before = agents(site)
    edits = {"operator/voicekeys/model/digest.py": ('self._key, b"data\\0"', 'self._key, b"other\\0"')}
    upgrade(site, BROKEN, {**next_version(BROKEN), **edits})
    eventually(lambda: agents(site) != before, "the agents restarted", RESTART_SECONDS)
    assert generation(site) != before[0]
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    eventually(lambda: site.jsonpath("vkb", "frejun", "-n", "voice-prod", path=ready) == "True", "ready", 60)


def test_an_edited_file_is_moved_to_an_overlay_first(site: Site) -> None:
    folder = site.base / "edited"
    site.origin.clone(folder)
    edit = f"sed -i 's|newName: voicekeys/operator|newName: {REGISTRY}|' deploy/kustomization.yaml"
    site.run(f"{edit}\n! git checkout --quiet v{LATER}", folder)
    *_, move = shell_blocks(DOCS / "upgrade.md")
    site.run(move, folder)
    assert site.run("git status --short", folder).split() == ["??", "my-cluster/"]
    rendered = site.run(f"git checkout --quiet v{LATER}\nkubectl kustomize my-cluster/", folder)
    assert f"image: {REGISTRY}:0.1.0" in rendered


def test_moving_over_restarts_no_agent(site: Site) -> None:
    # As another operator would have left it: the same data, a Secret that is not voicekeys' own.
    site.run("""
        kubectl -n voice-prod delete vkb frejun
        kubectl -n voice-prod delete secret frejun-api-key
        kubectl -n voice-prod create secret generic frejun-api-key \
          --from-literal=FREJUN_API_KEY="$(vault kv get -mount=secret -field=api_key voice/production/frejun)"
    """)
    before = generation(site)
    page = list(blocks(DOCS / "migrate.md"))
    for block in page:
        if block.language == "yaml":
            site.apply(block.text, dry_run=False)
        elif block.language == "sh":
            site.run(block)
    assert generation(site) == before
    label = r"{.metadata.labels.voicekeys\.dev/binding}"
    assert site.jsonpath("secret", "frejun-api-key", "-n", "voice-prod", path=label) == "frejun"


def test_uninstall_leaves_the_secrets_and_the_agents(site: Site) -> None:
    before = generation(site)
    for block in shell_blocks(DOCS / "uninstall.md"):
        printed = site.run(block)
    assert "frejun-api-key" in printed
    assert generation(site) == before
    assert "voicekeys.dev" not in site.lab.kubectl("get", "crds", "-o", "name")


@pytest.mark.own_control_plane
def test_install_commands(ran: set[str]) -> None:
    with Site(NOT_RUN, ran) as fresh:
        for block in blocks(DOCS / "install.md"):
            if block.language == "yaml":
                file = fresh.folder / block.first.removeprefix("# ")
                file.parent.mkdir(exist_ok=True)
                file.write_text(block.text)
                rendered = fresh.run(f"kubectl kustomize {shlex.quote(str(file.parent))}")
                assert f"{REGISTRY}:0.1.0" in rendered
            else:
                fresh.run(block)
        # What the user has is beside the files of the repository, not in them: an upgrade goes through.
        assert fresh.run("git diff --stat") == ""
        # The tenant policy that the page writes lets a namespace read its own folder, and no other's.
        fresh.lab.put_key("voice-prod/own", api_key="a")
        fresh.lab.put_key("voice-staging/other", api_key="b")
        token = fresh.lab.login("voice-prod")
        assert fresh.lab.vault("GET", "secret/data/voice-prod/own", token=token)["data"]["data"] == {"api_key": "a"}
        with pytest.raises(Exception, match="403"):
            fresh.lab.vault("GET", "secret/data/voice-staging/other", token=token)


def test_every_command_was_run(request: pytest.FixtureRequest, ran: set[str]) -> None:
    """The last test of the module: what no test before it has run, and `NOT_RUN` does not name, is a gap."""
    module = request.node.getparent(pytest.Module)
    chosen = {item.name for item in request.session.items if item.getparent(pytest.Module) is module}
    named = {name for name in vars(request.module) if name.startswith("test_")}
    if not named <= {name.partition("[")[0] for name in chosen}:
        pytest.skip("only some tests of this module were chosen")
    assert [one for one in _commands() if one not in ran and one not in NOT_RUN] == []
