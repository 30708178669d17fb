"""The gauge's examples on a real API server: every field is known, and every rule of the CRD holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.manifests import EXAMPLES

if TYPE_CHECKING:
    from tests.lab import Lab

FILES = sorted((EXAMPLES / "agents" / "gauge").glob("*.yaml"))


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_the_api_server_takes_the_example(api: Lab, namespace: str, name: str) -> None:
    text = (EXAMPLES / "agents" / "gauge" / f"{name}.yaml").read_text().replace("voice-prod", namespace)
    said = api.kubectl("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-", stdin=text)
    assert said.count("serverside-applied (server dry run)") == 2
