"""What the installed operator may do, verb by verb over all that the API server serves: this much and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.conftest import HOME, OPERATOR, TENANT
from tests.deploy.manifests import DEPLOY, render
from tests.deploy.rbac import grants, without
from tests.deploy.reviews import Act, may, own_rights

if TYPE_CHECKING:
    from tests.lab import Lab

ACCOUNT = f"{HOME}/{OPERATOR}"
WATCH = ("list", "watch")
READ = ("get", *WATCH)

# The whole contract, written by hand: group, resource, verbs.
EVERYWHERE = {
    ("voicekeys.dev", "voicekeybindings", WATCH),
    ("voicekeys.dev", "voicekeystores", WATCH),
    ("voicekeys.dev", "voicekeybindings/status", ("patch",)),
    ("voicekeys.dev", "voicekeystores/status", ("patch",)),
    ("", "secrets", (*READ, "create", "patch")),
    ("apps", "deployments", (*READ, "patch")),
    ("apps", "statefulsets", (*READ, "patch")),
    ("apps", "daemonsets", (*READ, "patch")),
    ("", "pods", (*WATCH, "patch")),
    ("", "namespaces", WATCH),
    ("", "resourcequotas", ("list",)),
    ("", "events", ("list",)),
    ("events.k8s.io", "events", ("create", "patch")),
}
AT_HOME = {("coordination.k8s.io", "leases", ("create",)), ("", "configmaps", ("get",))}
CLUSTER_SCOPED = ("voicekeystores", "voicekeystores/status", "namespaces")


def expected(contract: set[tuple[str, str, tuple[str, ...]]], namespace: str) -> set[Act]:
    """Return the acts of a contract in one namespace."""
    return {
        Act(group, resource, verb, namespace)
        for group, resource, verbs in contract
        for verb in verbs
        if not namespace or resource not in CLUSTER_SCOPED
    }


def test_in_a_tenants_namespace_exactly_the_contract(installed: Lab) -> None:
    assert own_rights(installed, ACCOUNT, TENANT) == expected(EVERYWHERE, TENANT)


def test_in_its_own_namespace_a_little_more(installed: Lab) -> None:
    assert own_rights(installed, ACCOUNT, HOME) == expected(EVERYWHERE | AT_HOME, HOME)


def test_cluster_wide_exactly_the_contract(installed: Lab) -> None:
    assert own_rights(installed, ACCOUNT, "") == expected(EVERYWHERE, "")


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        (Act("", "serviceaccounts/token", "create", TENANT, "voicekeys-reader"), True),
        (Act("", "serviceaccounts/token", "create", TENANT, "default"), False),
        (Act("", "serviceaccounts/token", "create", "kube-system", "replicaset-controller"), False),
        (Act("", "serviceaccounts/token", "create", HOME, OPERATOR), False),
        (Act("admissionregistration.k8s.io", "mutatingadmissionpolicies", "get", "", "voicekeys-arm"), True),
        (Act("admissionregistration.k8s.io", "mutatingadmissionpolicies", "get", "", "another"), False),
        (Act("admissionregistration.k8s.io", "mutatingadmissionpolicies", "patch", "", "voicekeys-arm"), False),
        (Act("coordination.k8s.io", "leases", "get", HOME, OPERATOR), True),
        (Act("coordination.k8s.io", "leases", "update", HOME, OPERATOR), True),
        (Act("coordination.k8s.io", "leases", "delete", HOME, OPERATOR), False),
        (Act("coordination.k8s.io", "leases", "update", HOME, "another"), False),
        (Act("coordination.k8s.io", "leases", "update", "kube-system", "kube-scheduler"), False),
    ],
    ids=lambda each: "/".join(filter(None, each)) if isinstance(each, Act) else "",
)
def test_rights_by_name_hold_for_that_name_alone(installed: Lab, act: Act, answer: bool) -> None:  # noqa: FBT001
    assert may(installed, ACCOUNT, act) is answer


def test_every_grant_can_be_taken_away_alone(installed: Lab) -> None:
    manifests = render(installed, DEPLOY)
    all_of_them = grants(manifests, by_verb=True)

    assert len(all_of_them) == len(set(all_of_them))
    for grant in all_of_them:
        rest = [(each.role, each.resource, each.verb) for each in grants(without(manifests, grant), by_verb=True)]
        wanted = [(each.role, each.resource, each.verb) for each in all_of_them if each != grant]
        assert sorted(rest, key=str) == sorted(wanted, key=str)


def test_a_grant_without_a_verb_takes_the_whole_resource(installed: Lab) -> None:
    manifests = render(installed, DEPLOY)
    (secrets,) = (each for each in grants(manifests) if each.resource == "secrets")

    assert "secrets" not in {each.resource for each in grants(without(manifests, secrets))}
    assert len(grants(without(manifests, secrets))) == len(grants(manifests)) - 1
