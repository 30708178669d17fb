"""The operator in pods of real nodes, as `kubectl apply -k deploy/` installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.reconcilers.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def overlay(folder: Path) -> Path:
    """Write what a lab must change of deploy/: the image is on the nodes already, and there is nowhere to pull it."""
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Never"}]
    # kustomize takes no absolute paths.
    up = "../" * (len(folder.resolve().parts) - 1)
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}{str(ROOT / 'deploy').lstrip('/')}"],
        "patches": [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(patch)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return folder
