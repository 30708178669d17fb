"""The generated pages leave nothing out."""

from __future__ import annotations

import pytest

from tests.crds.schemas import BINDINGS, STORES, Node, part, rules, schema_of
from tests.generate.crd_reference import CONDITIONS_PAGE, REFERENCE_PAGE, render
from voicekeys.api.conditions import BINDING_CONDITIONS, STORE_CONDITIONS


def _plain(text: str) -> str:
    """Return a page's text without Markdown's escapes and line ends."""
    return " ".join(text.replace("\\*", "*").replace("\\|", "|").split())


@pytest.mark.parametrize("plural", [BINDINGS, STORES])
def test_every_field_and_every_rule_is_on_the_page(plural: str) -> None:
    page = _plain(render()[REFERENCE_PAGE])
    for top in ("spec", "status"):
        for node in part(plural, top):
            if node.path != top and not node.path.endswith(("[]", "{}")):
                assert f"`{node.path.removeprefix(f'{top}.')}`" in page
    nodes = [Node("", schema_of(plural)), *part(plural, "spec")]
    messages = [_plain(message) for node in nodes for _, message in rules(node)]
    assert messages
    assert [message for message in messages if message not in page] == []


def test_every_condition_is_on_the_page() -> None:
    page = render()[CONDITIONS_PAGE]
    for row in (*BINDING_CONDITIONS, *STORE_CONDITIONS):
        assert f"| `{row.type}` | {row.polarity} | {'yes' if row.feeds_ready else 'no'} |" in page
        assert row.meaning in page
