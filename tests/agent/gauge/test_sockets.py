"""Whether the agent is gone: the kernel's tables of sockets, as they are and as they may be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from voicekeys.agent.gauge.sockets import others_have_any

TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENS = (
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000 100 0 0\n"
)
WAITS = "   1: 0100007F:1F90 0100007F:D4A2 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000\n"
PACKET = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process's folder without any sockets in its network namespace."""
    (tmp_path / "net").mkdir()
    (tmp_path / "fd").mkdir()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        (tmp_path / "net" / name).write_text(TCP)
    return tmp_path


def own(proc: Path, inode: int) -> None:
    (proc / "fd" / str(inode)).symlink_to(f"socket:[{inode}]")


def test_nobody_has_a_socket(proc: Path) -> None:
    assert not others_have_any(proc)


def test_ones_own_and_those_that_no_process_has_are_not_others(proc: Path) -> None:
    own(proc, 77)
    (proc / "fd" / "0").symlink_to("/dev/null")
    (proc / "net" / "tcp").write_text(TCP + LISTENS.format(77) + WAITS)
    assert not others_have_any(proc)


@pytest.mark.parametrize("table", ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6"])
def test_anothers_socket(proc: Path, table: str) -> None:
    own(proc, 77)
    (proc / "net" / table).write_text(TCP + LISTENS.format(77) + LISTENS.format(78))
    assert others_have_any(proc)


def test_anothers_packet_socket(proc: Path) -> None:
    (proc / "net" / "packet").write_text(PACKET + "0000000000000000 3      3    0003   2     1 0      0      4711\n")
    assert others_have_any(proc)


def test_an_sctp_association(proc: Path) -> None:
    """SIP may run over it. Its tables are there only where the protocol is."""
    (proc / "net" / "sctp").mkdir()
    (proc / "net" / "sctp" / "eps").write_text(" ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n")
    (proc / "net" / "sctp" / "assocs").write_text(" ASSOC SOCK\n")
    assert not others_have_any(proc)
    (proc / "net" / "sctp" / "assocs").write_text(" ASSOC SOCK\n 0 0 2 1\n")
    assert others_have_any(proc)


@pytest.mark.parametrize("content", [None, TCP + "nonsense\n", TCP + LISTENS.format("x")])
def test_what_cannot_be_read_is_no_proof(proc: Path, content: str | None) -> None:
    if content is None:
        (proc / "net" / "udp").unlink()
    else:
        (proc / "net" / "udp").write_text(content)
    assert others_have_any(proc)


def has_namespaces() -> bool:
    """Whether this user may make network namespaces, and join them."""
    tools = shutil.which("unshare") and shutil.which("ip")
    return bool(tools) and subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="needs unshare -rn and ip: a network namespace, as a pod has")
def test_in_a_pods_network_namespace_an_agent_that_dies_lets_its_hook_go() -> None:
    """An agent, the sidecar and nobody else: port closed while a socket is open, then dead."""
    program = Path(__file__).parent / "programs" / "namespace.py"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(program)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "live: held, None",
        "port closed, a call's socket open: held, refused",
        "dead: answered, gone",
        "aborted: 2",
    ], done.stderr
