"""sipp, the callers of SIP: one process places calls at a rate, one more each long call."""

from __future__ import annotations

import asyncio
import csv
import shutil
import signal
from pathlib import Path

PACKAGE = "sip-tester"
SCENARIO = Path(__file__).with_name("caller.xml")
LOOPBACK = "127.0.0.1"
NOTHING_PLACED = 99
PERIOD_MS = 10_000


def missing() -> str | None:
    """Say what SIP calls lack on this machine and how to get it; None when nothing."""
    if shutil.which("sipp"):
        return None
    return f"SIP calls need packages: apt-get install --no-install-recommends {PACKAGE}"


class Sipp:
    """One sipp; `counts` is what it says itself of its calls.

    Args:
        folder: for its scenario and its statistics.
        name: of its files.
        dispatcher: the port on loopback that it calls.
        media: its port for audio, which it echoes.
    """

    def __init__(self, folder: Path, name: str, dispatcher: int, media: int) -> None:
        self._folder = folder
        self._name = name
        self._dispatcher = dispatcher
        self._media = media
        self._process: asyncio.subprocess.Process | None = None

    async def place(self, rate: float, shortest: float, longest: float) -> None:
        """Begin to place calls, `rate` a second, each of so many seconds."""
        pause = f'distribution="uniform" min="{int(1000 * shortest)}" max="{int(1000 * longest)}"'
        await self._start(pause, "agent", ["-r", str(round(rate * PERIOD_MS / 1000)), "-rp", str(PERIOD_MS)])

    async def place_one(self, seconds: float) -> None:
        """Place one long call."""
        await self._start(f'milliseconds="{int(1000 * seconds)}"', "long", ["-m", "1"])

    async def _start(self, pause: str, service: str, options: list[str]) -> None:
        scenario = self._folder / f"{self._name}.xml"
        scenario.write_text(SCENARIO.read_text().replace("<pause/>", f"<pause {pause}/>"))
        audio = ["-mi", LOOPBACK, "-mp", str(self._media), "-rtp_echo"]
        where = ["-i", LOOPBACK, f"{LOOPBACK}:{self._dispatcher}"]
        stats = ["-trace_stat", "-stf", str(self._stats), "-fd", "5", "-nostdin"]
        # sipp ends with this process, however that ends.
        argv = ["setpriv", "--pdeathsig", "KILL", "sipp", "-sf", str(scenario), "-s", service, *options, *stats]
        with (self._folder / f"{self._name}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv, *audio, *where, stdout=log, stderr=log, cwd=self._folder
            )

    @property
    def _stats(self) -> Path:
        return self._folder / f"{self._name}.csv"

    async def stop(self) -> dict[str, int]:
        """Place no more, wait until the last call has ended, and return sipp's own counts.

        Raises:
            RuntimeError: sipp failed, other than by calls that failed.
        """
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)
        code = await self._process.wait()
        if code not in {0, 1, NOTHING_PLACED}:
            log = (self._folder / f"{self._name}.log").read_text(errors="replace")
            raise RuntimeError(f"sipp ended with code {code}; its words end: {log[-500:]}")
        return self.counts()

    def counts(self) -> dict[str, int]:
        """Read sipp's own statistics."""
        with self._stats.open() as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        wanted = {"created": "TotalCallCreated", "successful": "SuccessfulCall(C)", "failed": "FailedCall(C)"}
        return {name: int(rows[-1][column]) for name, column in wanted.items()}
