"""One request as the operator, and the words of the admission policy that refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab.http import ApiError

if TYPE_CHECKING:
    from tests.deploy.conftest import Call

FORBIDDEN = 403
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Case:
    """A sentence, the request that it is about, and the policy's words that refuse it (None: it is allowed)."""

    says: str
    body: Any
    refusal: str | None
    at: str = ""
    method: str = "PATCH"
    content_type: str | None = None


def refusal(call: Call, method: str, path: str, body: Any, content_type: str | None = None) -> str | None:
    """Send a request and return the policy's words that refuse it, None where it is allowed.

    Any other error is raised, also a refusal by RBAC.
    """
    try:
        call(method, path, body, content_type=content_type)
    except ApiError as error:
        _, denied, words = str(error).rpartition("denied request: ")
        if error.status != FORBIDDEN or not denied:
            raise
        return words
    return None


def check(call: Call, path: str, case: Case) -> None:
    """Send a case's request as a dry run and compare the answer."""
    assert refusal(call, case.method, f"{path}?dryRun=All", case.body, case.content_type) == case.refusal


def names(case: Case) -> str:
    """Return the name of a parametrised test: its sentence."""
    return case.says
