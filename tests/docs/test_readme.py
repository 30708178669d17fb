"""What README and the pages for whoever installs voicekeys say: commands run, YAML applies, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.docs.markdown import ROOT, Block, anchors, blocks, links
from tests.docs.site import Site
from tests.lab.processes import eventually

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

NOT_RUN = {
    f"{TRY_IT}demo": "test_demo.py runs what it runs, and test_the_two_commands_are_ci_s holds the words",
    f"{TRY_IT}test": "it is this run; .ci/run calls it by these words",
    "docker build -t registry.example.com/voicekeys/operator:0.1.0 .": "needs Docker and a registry; tests/deploy "
    "reads the Dockerfile, and CI builds it",
    "vault write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc:443": "for a Vault in a pod, "
    "which takes the CA from the files of its own ServiceAccount",
    "kubectl -n voice-prod patch externalsecret frejun --type merge -p \\": "needs the External Secrets Operator",
    "kubectl -n voice-prod delete vaultstaticsecret frejun --cascade=orphan": "needs the Vault Secrets Operator",
}


def shell_blocks(page: Path) -> list[Block]:
    """The blocks of commands of a page that can run here."""
    return [each for each in blocks(page) if each.language == "sh" and each.first not in NOT_RUN]


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
    there = {each.first for page in (README, *DOCS.glob("*.md")) for each in blocks(page)}
    assert set(NOT_RUN) <= there


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "yaml", "text", "mermaid"}
    assert [
        str(each) for page in (README, *DOCS.glob("*.md")) for each in blocks(page) if each.language not in known
    ] == []


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
    (binding, store) = (yaml.safe_load(each.text) for each in yaml_blocks(README))
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
def site(lab: object) -> Iterator[Site]:  # noqa: ARG001  the run's lab, whose binaries are built before any test's time runs
    """Follow README's five minutes; the other pages begin where they end."""
    with Site() as started:
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
        site.apply(block.text, dry_run=True)


def test_gitops_commands(site: Site) -> None:
    site.lab.make_namespace("argocd")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    site.lab.apply(config_map)
    for block in shell_blocks(DOCS / "gitops.md"):
        site.run(block)
    assert "VoiceKeyBinding" in site.jsonpath("configmap", "argocd-cm", "-n", "argocd", path="{.data}")


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


def test_upgrade_restarts_no_agent(site: Site) -> None:
    before = generation(site)
    for block in shell_blocks(DOCS / "upgrade.md"):
        site.run(block)
    assert generation(site) == before


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
        elif block.first not in NOT_RUN:
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


def test_install_commands(lab: object) -> None:  # noqa: ARG001  its binaries are built by now
    with Site() as fresh:
        for block in blocks(DOCS / "install.md"):
            if block.language == "yaml":
                file = fresh.folder / block.first.removeprefix("# ")
                file.parent.mkdir(exist_ok=True)
                file.write_text(block.text)
                assert "registry.example.com/voicekeys/operator:0.1.0" in fresh.run(
                    f"kubectl kustomize {shlex.quote(str(file.parent))}"
                )
            elif block.first not in NOT_RUN:
                fresh.run(block)
        # The tenant policy that the page writes lets a namespace read its own folder, and no other's.
        fresh.lab.put_key("voice-prod/own", api_key="a")
        fresh.lab.put_key("voice-staging/other", api_key="b")
        token = fresh.lab.login("voice-prod")
        assert fresh.lab.vault("GET", "secret/data/voice-prod/own", token=token)["data"]["data"] == {"api_key": "a"}
        with pytest.raises(Exception, match="403"):
            fresh.lab.vault("GET", "secret/data/voice-staging/other", token=token)
