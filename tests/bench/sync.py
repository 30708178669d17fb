"""How dear sync is: cold start, idle, changes by notify and by poll, restart, fan-out of one path."""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.ledger import OPERATOR_USER, Ledger, Tally
from tests.bench.processes import Operator, cpu_by_name, memory, spent_since
from tests.bench.watching import SecretWatch
from tests.bench.world import STORE, Sizes, World
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_SECONDS = 2.0
QUIET_LOAD = 0.1  # of a core: idle polls of 1,000 paths a minute take far less
NOTIFY_PAUSE = 0.2


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long.

    Args:
        sizes: of the world.
        interval: of the store's polls, seconds.
        idle: seconds to watch it do nothing.
        notifies: how many changes are notified, one after another.
        polled: how many paths change at once and wait for their poll; 0 leaves that out.
        fan: bindings of the fan-out; 0 leaves it out.
        python: the operator's interpreter.
        profile: file for cProfile, None for none.
    """

    sizes: Sizes
    interval: int = 60
    idle: float = 120.0
    notifies: int = 100
    polled: int = 50
    fan: int = 1000
    python: str = sys.executable
    profile: Path | None = None


class Run:
    """One run in a lab of its own; `results` fills up phase by phase."""

    def __init__(self, lab: Lab, ledger: Ledger, plan: Plan, say: Callable[[str], None]) -> None:
        self.lab = lab
        self.ledger = ledger
        self.plan = plan
        self.say = say
        self.operator = Operator(lab, OPERATOR_USER, plan.python, plan.profile)
        self.world = World(lab, plan.sizes, plan.interval)
        self.results: dict[str, Any] = {}
        self._random = random.Random(2)

    def measure(self) -> dict[str, Any]:
        """Run every phase in its order and give the results."""
        sizes = self.plan.sizes
        self.say(f"making {sizes.bindings} bindings over {sizes.paths} paths in {sizes.namespaces} namespaces")
        self.operator.compile()
        self.world.build(self.operator.notify_key)
        load = os.getloadavg()[0]
        for phase in (self.cold, self.idle, self.notified, self.polled, self.restart, self.fan_out):
            self.say(f"{phase.__name__.replace('_', '-')} …")
            phase()
        self.world.check()
        self.operator.stop()
        self.lab.processes.check()
        self.results["machine"] = {
            "cpus": os.cpu_count(),
            "load_average_before_and_after": [round(load, 1), round(os.getloadavg()[0], 1)],
        }
        return self.results

    def cold(self) -> None:
        """From the start of the process until every Secret exists, and until nothing is left to write."""
        wanted, before, cpu = set(self.world.secrets), self.ledger.update(), cpu_by_name()
        self.operator.start()
        self._until(lambda: wanted <= self.ledger.applied.keys(), "every Secret", 60 + len(wanted) / 10)
        by_then = self.ledger.update() - before
        self._until(lambda: wanted <= self.ledger.statuses.keys(), "every status", 60 + len(wanted) / 10)
        self._quiet()
        used = self.ledger.update() - before
        spent = spent_since(cpu)
        counters = self.operator.counters()
        compared = _differences(counters, used, self.ledger.update() - before)
        self.world.check()
        done = max(self.ledger.applied[name] for name in wanted)
        self.results |= {
            "cold_seconds": round(done - self.operator.started, 2),
            "cold_settled_seconds": round(self.ledger.last_change - self.operator.started, 2),
            "cold_vault_reads": used.first_reads,
            "cold_vault_polls": used.reads - used.first_reads,
            "cold_vault_logins": used.logins,
            "cold_vault_requests": by_then.vault,
            "cold_api_writes": used.writes,
            "cold_api_reads": used.api_reads,
            **_apart(used),
            "cpu_seconds": round(self.operator.cpu(), 2),
            "cpu_seconds_by_process": {name: round(value, 1) for name, value in spent.items()},
            "cold_by_request": dict(self.ledger.by_request.most_common()),
            "operators_own_count_differs": compared,
        }
        self._remember_memory()

    def idle(self) -> None:
        """Nothing changes."""
        before, cpu, started = self.ledger.update(), self.operator.cpu(), time.monotonic()
        while (left := started + self.plan.idle - time.monotonic()) > 0:
            time.sleep(min(left, 5))
        seconds = time.monotonic() - started
        used, spent = self.ledger.update() - before, self.operator.cpu() - cpu
        self.results |= {
            "idle_seconds": round(seconds, 1),
            "idle_interval_seconds": self.plan.interval,
            "idle_vault_reads_per_interval": round(used.reads * self.plan.interval / seconds, 1),
            "idle_vault_logins": used.logins,
            "idle_api_writes": _all_writes(used),
            "idle_lease_api_writes": used.lease,
            "idle_event_api_writes": used.event,
            "idle_cpu_percent": round(100 * spent / seconds, 2),
            "idle_cpu_seconds": round(spent, 2),
            "idle_rss_mib": round(memory(self.operator.pid)["VmRSS"], 1),
        }

    def notified(self) -> None:
        """One change after another, each told by POST /notify on an idle queue."""
        paths = self._some_paths(self.plan.notifies)
        taken: list[float] = []
        with SecretWatch(self.lab) as watch:
            for path in paths:
                self.world.put([path])
                since = time.monotonic()
                self.operator.notify(STORE, path)
                taken += watch.wait(self._of(path), since, 30)
                time.sleep(NOTIFY_PAUSE)
        self.results["change_to_secret_ms"] = {"notify": _percentiles(taken)}

    def polled(self) -> None:
        """Some paths change at once, and nobody tells."""
        if not self.plan.polled:
            return
        paths, before = self._some_paths(self.plan.polled), self.ledger.update()
        with SecretWatch(self.lab) as watch:
            self.world.put(paths)
            since = time.monotonic()
            names = [name for path in paths for name in self._of(path)]
            try:
                taken = watch.wait(names, since, 1.2 * self.plan.interval + 30)
            except TimeoutError as error:
                reads = (self.ledger.update() - before).reads
                raise RuntimeError(f"{error}; the operator made {reads} reads meanwhile") from error
        self.results["change_to_secret_ms"]["poll"] = _percentiles(taken)
        self._quiet()

    def restart(self) -> None:
        """Stop and start it: all is read again, nothing is written."""
        self._remember_memory()
        self.operator.stop()
        before = self.ledger.update()
        self.operator.start()
        reads = self.plan.sizes.paths
        self._until(lambda: (self.ledger.update() - before).reads >= reads, "every path read again", 120)
        quiet_since = self._quiet()
        used = self.ledger.update() - before
        self.results |= {
            "restart_seconds": round(quiet_since - self.operator.started, 2),
            "restart_cpu_seconds": round(self.operator.cpu(), 2),
            "restart_vault_reads": used.reads,
            "restart_vault_logins": used.logins,
            "restart_api_writes": _all_writes(used),
        }
        self._remember_memory()

    def fan_out(self) -> None:
        """One path that many bindings follow changes."""
        if not self.plan.fan:
            return
        path = self.world.fan_out(self.plan.fan)
        names = self._of(path)
        self._until(lambda: self.ledger.statuses.keys() >= set(names), "the fan-out's bindings", 300)
        self._quiet()
        before = self.ledger.update()
        with SecretWatch(self.lab) as watch:
            self.world.put([path])
            since = time.monotonic()
            self.operator.notify(STORE, path)
            taken = watch.wait(names, since, 300)
        self._quiet()
        used = self.ledger.update() - before
        self.results |= {
            "fanout_bindings": len(names),
            "fanout_seconds": round(max(taken), 2),
            "fanout_api_writes": used.writes,
            "fanout_event_api_writes": used.event,
        }

    def _remember_memory(self) -> None:
        peak = memory(self.operator.pid)["VmHWM"]
        self.results["rss_mib"] = round(max(peak, self.results.get("rss_mib", 0.0)), 1)

    def _of(self, path: str) -> list[str]:
        return [name for name, followed in self.world.secrets.items() if followed == path]

    def _some_paths(self, count: int) -> list[str]:
        numbers = range(self.plan.sizes.paths)
        return [self.world.path(each) for each in self._random.sample(numbers, min(count, len(numbers)))]

    def _until(self, done: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.ledger.update()
            if done():
                return
            self.operator.cpu()  # raises when it is gone
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.25)

    def _quiet(self) -> float:
        """Wait until the operator has written nothing and used next to no CPU for a while; give when that began."""
        since, last = time.time(), self.operator.cpu()
        while time.time() - since < QUIET_SECONDS:
            time.sleep(0.5)
            self.ledger.update()
            now = self.operator.cpu()
            if now - last > 0.5 * QUIET_LOAD or self.ledger.last_change > since:
                since = time.time()
            last = now
        return since


def measure(plan: Plan, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Start a lab, measure, and give one JSON object."""
    with tempfile.TemporaryDirectory(prefix="voicekeys-bench-") as folder:
        ledger = Ledger(Path(folder))
        whole = plan.sizes.agents > 0
        with Lab.start(
            nodes=3 if whole else 0,
            controller_manager=whole,
            scheduler=whole,
            users={OPERATOR_USER: ["system:masters"]},
            apiserver_flags=ledger.apiserver_flags(),
            say=say,
        ) as lab:
            lab.vault("PUT", "sys/audit/file", ledger.vault_device())
            sizes = vars(plan.sizes)
            return {"benchmark": "sync", **sizes, **Run(lab, ledger, plan, say).measure()}


def _all_writes(used: Tally) -> int:
    """Every write but Lease, events, and tokens, which are not stored: stricter than what `cold_api_writes` counts."""
    return used.writes + used.store + used.own + used.other


def _apart(used: Tally) -> dict[str, int]:
    return {
        "lease_api_writes": used.lease,
        "event_api_writes": used.event,
        "store_api_writes": used.store,
        "own_api_writes": used.own,
        "other_api_writes": used.other,
        "token_requests": used.token,
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * one for one in seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"p50": round(statistics.median(ordered), 1), "p99": round(p99, 1), "samples": len(ordered)}


def _differences(counters: dict[str, float], before: Tally, after: Tally) -> dict[str, list[int]]:
    """Where the operator's own counters and the servers' logs differ; empty when they agree.

    Polls go on while the counters are scraped, so each must lie between the logs before and after:
    `[operator, servers before, servers after]`.
    """
    own: Counter[str] = Counter()
    for series, value in counters.items():
        if series.startswith("voicekeys_vault_requests_total{"):
            own["vault"] += int(value)
            own["reads"] += int(value) if 'operation="read"' in series else 0
            own["logins"] += int(value) if 'operation="login"' in series else 0
        if series.startswith("voicekeys_api_requests_total{") and 'code="2' in series:
            writes = any(f'verb="{verb}"' in series for verb in ("POST", "PATCH", "PUT", "create", "patch", "update"))
            counted = any(f'resource="{kind}' in series for kind in ("secrets", "voicekeybindings", "deployments"))
            own["writes"] += int(value) if writes and counted else 0
    found = {}
    for name in ("vault", "reads", "logins", "writes"):
        low, high = (getattr(one, name) + (one.own if name == "writes" else 0) for one in (before, after))
        if not low <= own[name] <= high:
            found[name] = [own[name], low, high]
    return found
