"""The images that pods of real nodes are made of: pause, and on a base with Python the operator and others of tests.

Nothing is pulled: the base comes from Debian's archive by debootstrap, the operator's image from the project's own
Dockerfile by buildah. What takes long is kept in the cache (`~/.cache/voicekeys/nodes`) under a name that changes with
all that went into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.binaries import cache_folder
from tests.lab.build import locked
from tests.lab.nodes.oci import Image, write_archive, write_layer
from tests.lab.nodes.requirements import KEYRING
from tests.lab.nodes.settings import PAUSE
from tests.lab.processes import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.build import Say

ROOT = Path(__file__).parents[3]
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,ca-certificates"
# Nothing runs from these, and the rest is what makes an import slow.
LEFT_OUT = ("dev/*", "proc/*", "sys/*", "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*")
LEFT_OUT_SHARE = ("usr/share/doc/*", "usr/share/locale/*", "usr/share/man/*", "usr/share/info/*")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# As deploy/ names it: its manifests are then used as they are.
OPERATOR = "docker.io/voicekeys/operator:0.1.0"
CONTEXT = ("Dockerfile", ".dockerignore", "LICENSE", "deploy/requirements/operator.txt")
KEPT = 3


def pause(binary: Path, folder: Path) -> Path:
    """Write the image of a pod's sandbox, one static binary, and return its archive."""
    layer = write_layer({"/pause": binary}, folder / "pause-layer.tar")
    return write_archive(Image(PAUSE, [layer], ["/pause"], user="65535:65535"), folder / "pause.tar")


def python(name: str, files: Mapping[str, Path], entrypoint: Sequence[str], folder: Path, say: Say = print) -> Path:
    """Write an image `name`: the base with Python, and some files (path in the image: file); return its archive."""
    layers = [base_layer(say), write_layer(files, folder / "files-layer.tar")]
    image = Image(name, layers, entrypoint, env={"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    file = name.rpartition("/")[2].replace(":", "-")
    return write_archive(image, folder / f"{file}.tar")


# ---- the base


def cache() -> Path:
    """Return the folder of what is kept."""
    folder = cache_folder("nodes")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def base_layer(say: Say = print) -> Path:
    """Return the layer of a Debian with Python, made by debootstrap the first time. Raises LabError with its words."""
    settings = repr((SUITE, PACKAGES, LEFT_OUT, LEFT_OUT_SHARE, pip_settings(), certificates()))
    file = cache() / f"base-{digest(settings.encode())}.tar"
    with locked(cache() / "base.lock", say):
        if not file.exists():
            say(f"lab: making a base image of Debian {SUITE} with Python: 1 to 2 min, 150 MB, kept for the next time")
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="voicekeys-base-", ignore_cleanup_errors=True) as folder:
                _debootstrap(Path(folder), file)
            say(f"lab: made the base image in {time.monotonic() - begun:.0f} s")
            keep_newest("base-*.tar")
    return file


def _debootstrap(folder: Path, layer: Path) -> None:
    root = folder / "root"
    # In a namespace of its own: what it mounts is gone when it ends, however it ends.
    namespace = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    choice = ["--variant=minbase", f"--include={PACKAGES}", f"--keyring={KEYRING}"]
    execute([*namespace, "debootstrap", *choice, SUITE, str(root), os.environ.get("VOICEKEYS_DEBIAN_MIRROR", MIRROR)])
    (root / "etc" / "pip.conf").write_text(pip_settings())
    if machines := certificates():
        (root / CERTIFICATES).write_text(machines)
    left_out = [f"--exclude=./{each}" for each in (*LEFT_OUT, *LEFT_OUT_SHARE)]
    unfinished = layer.with_suffix(".unfinished")
    execute(["tar", "--numeric-owner", "--sort=name", *left_out, "-C", str(root), "-cf", str(unfinished), "."])
    unfinished.replace(layer)


def pip_settings() -> str:
    """Return a pip.conf with which a build in the image installs from where this machine does."""
    names = ("index-url", "extra-index-url", "trusted-host", "proxy")
    values = {name: os.environ.get(f"PIP_{name.replace('-', '_').upper()}") for name in names}
    lines = [f"{name} = {value}" for name, value in values.items() if value]
    return "\n".join(["[global]", f"cert = /{CERTIFICATES}", *lines, ""])


def certificates() -> str:
    """Return the CA certificates that this machine trusts, which may be of its own."""
    file = Path(os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or f"/{CERTIFICATES}")
    return file.read_text() if file.is_file() else ""


# ---- the operator


def operator(say: Say = print) -> Path:
    """Return the archive of the operator's image, built by the project's Dockerfile where it has changed."""
    layer = base_layer(say)
    inputs = hashlib.sha256(layer.name.encode())
    for file in _sources():
        inputs.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    archive = cache() / f"operator-{inputs.hexdigest()[:16]}.tar"
    with locked(cache() / "operator.lock", say):
        if not archive.exists():
            say("lab: building the operator's image by the Dockerfile (buildah): up to a minute the first time")
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="voicekeys-image-", ignore_cleanup_errors=True) as folder:
                _buildah(Path(folder), layer, archive)
            say(f"lab: built the operator's image in {time.monotonic() - begun:.0f} s")
            keep_newest("operator-*.tar")
    return archive


def _sources() -> list[Path]:
    """Return the files that the Dockerfile may copy: what .dockerignore lets through."""
    code = [file for file in (ROOT / "operator" / "voicekeys").rglob("*") if file.is_file()]
    return sorted([*(ROOT / name for name in CONTEXT), *(file for file in code if "__pycache__" not in file.parts)])


def _buildah(folder: Path, layer: Path, archive: Path) -> None:
    """Build with a store of our own, in which the layers of the dependencies stay for the next time."""
    base = write_archive(Image("localhost/voicekeys-lab/base:1", [layer], ["python3"]), folder / "base.tar")
    policy = folder / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    # In a namespace of its own: what it mounts is gone when it ends, however it ends.
    store = [f"--root={cache() / 'buildah'}", f"--runroot={folder / 'run'}", "--storage-driver=overlay"]
    buildah = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "buildah", *store]
    signatures = f"--signature-policy={policy}"
    pulled = execute([*buildah, "pull", "-q", signatures, f"oci-archive:{base}"]).split()[-1]
    arguments = ["--isolation=chroot", "--layers", "-q", signatures, f"--build-arg=BASE={pulled}", "--pull-never"]
    built = execute([*buildah, "bud", *arguments, str(ROOT)]).split()[-1]
    unfinished = archive.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    target = f"oci-archive:{unfinished}:{OPERATOR}"
    execute([*buildah, "push", "-q", signatures, "--disable-compression", built, target])
    unfinished.replace(archive)


# ---- helpers


def execute(argv: Sequence[str]) -> str:
    """Run a command and return its output; raises LabError with the end of what it said when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        words = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        name = next(each for each in argv if each in {"debootstrap", "buildah", "tar"})
        raise LabError(f"{name} failed:\n{words}")
    return done.stdout


def digest(data: bytes) -> str:
    """Return a short digest for a file's name."""
    return hashlib.sha256(data).hexdigest()[:16]


def keep_newest(pattern: str) -> None:
    """Delete all but the newest few archives of a pattern: those of other branches may still be wanted."""
    for old in sorted(cache().glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)[KEPT:]:
        old.unlink()
