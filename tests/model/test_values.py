"""Names, verdicts and errors."""

from __future__ import annotations

import inspect
import re

import pytest

from voicekeys.model import errors
from voicekeys.model.errors import ApiError, ApiThrottled, Retryable, StoreDown, Terminal, VoiceKeysError
from voicekeys.model.identity import OPERATOR, Identity, Name, SourceId, WorkloadId
from voicekeys.model.verdict import Verdict


def test_names_as_people_read_them() -> None:
    assert str(Name("voice", "frejun")) == "voice/frejun"
    assert str(Name("", "default")) == "default"
    assert str(WorkloadId("StatefulSet", "voice", "agent")) == "StatefulSet voice/agent"
    assert str(Identity("voice", "reader")) == "ServiceAccount voice/reader"
    assert str(OPERATOR) == "the store's own login"


def test_a_lent_identity_is_the_operator_s() -> None:
    assert OPERATOR.lent
    assert not Identity("voice", "reader").lent


def test_a_source_is_shared_by_its_parts() -> None:
    one = SourceId("default", Identity("voice", "reader"), "voice/frejun")
    assert one == SourceId("default", Identity("voice", "reader"), "voice/frejun", 0)
    assert len({one, one._replace(version=3), one._replace(identity=OPERATOR)}) == 3


def test_a_verdict() -> None:
    reason, message = Verdict("Broken", "mend it")
    assert (reason, message) == ("Broken", "mend it")


TREE = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, VoiceKeysError) and kind is not VoiceKeysError
}


@pytest.mark.parametrize("kind", TREE.values(), ids=TREE)
def test_an_error_carries_its_reason_and_message(kind: type[VoiceKeysError]) -> None:
    error = kind("Sealed", "unseal Vault")
    assert (error.reason, error.message, str(error)) == ("Sealed", "unseal Vault", "unseal Vault")
    assert repr(error) == f"{kind.__name__}(Sealed: unseal Vault)"


def test_an_error_says_how_long_to_wait_and_which_status_it_had() -> None:
    assert Retryable("R", "m").retry_after is None
    assert StoreDown("R", "m", retry_after=3).retry_after == 3
    assert StoreDown("R", "m").answered
    assert not StoreDown("R", "m", answered=False).answered
    throttled = ApiThrottled("R", "m", status=429, retry_after=2.5)
    assert (throttled.status, throttled.retry_after) == (429, 2.5)
    assert ApiError("R", "m").status == 0


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Read by the indentation of the drawing; who must act is the class right below the root."""
    drawn: dict[str, str] = {}
    above = {-1: "VoiceKeysError"}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)[├└]── (\w+)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            drawn[found[2]] = above[depth - 1]
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in TREE.items()}


def test_every_error_is_of_one_who_must_act() -> None:
    acting = (Terminal, errors.Waiting, Retryable)
    assert all(sum(issubclass(kind, one) for one in acting) == 1 for kind in TREE.values())
