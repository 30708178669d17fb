"""The table that is printed: each number, its target beside it, reached or missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = """measured elsewhere: 1,000 objects over 100 paths, refresh 60 s, one identity, on 2 cores with
Kubernetes 1.36.3 and Vault 1.21.0, one run each, ±20 %
                                      Vault Secrets Operator   External Secrets 2.9.0   External Secrets, tuned
                                      1.4.1                    default                  (20 workers, QPS 500)
start → all Secrets exist             12.4 s                   101 s                    22 s
Vault requests by then                1,504                    4,012                    4,008
API writes by then                    3,980                    5,011                    4,406
operator's CPU; peak RSS              3.7 s; 104 MiB           12.1 s; 148 MiB          7.3 s; 190 MiB
180 s idle: Vault requests            3,014                    7,124                    12,000
180 s idle: API writes                3,014                    3,558                    6,000
180 s idle: CPU                       9.6 s                    19.7 s                   20.8 s"""


class Target(NamedTuple):
    """A bound; `exact` where the number must be just that."""

    key: str
    bound: float
    exact: bool = False

    def met(self, value: float) -> bool:
        """Whether a number reaches it."""
        return value == self.bound if self.exact else value <= self.bound

    def __str__(self) -> str:
        return f"{'=' if self.exact else '≤'} {self.bound:g}"


def targets(results: dict[str, Any]) -> list[Target]:
    """The targets of a run of this size."""
    bindings, paths, identities = results["bindings"], results["paths"], results["namespaces"]
    common = [
        Target("cold_vault_reads", paths, exact=True),
        Target("cold_vault_logins", identities, exact=True),
        Target("cold_api_writes", 2 * bindings),
        Target("idle_api_writes", 0, exact=True),
        Target("restart_api_writes", 0, exact=True),
        Target("change_to_secret_ms.notify.p99", 500),
    ]
    if (bindings, paths) == (10_000, 1_000):
        common += [Target("rss_mib", 120), Target("cold_seconds", 120)]
    if (bindings, paths) == (1_000, 100):
        idle = results["idle_seconds"] / 180
        common += [
            Target("cold_seconds", 8),
            Target("cold_vault_requests", paths + identities),
            Target("idle_cpu_seconds", round(idle, 2)),
            Target("rss_mib", 90),
        ]
    return common


def flat(results: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give each number under its dotted name."""
    for key, value in results.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def judged(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target with the value and whether it is met, for the JSON."""
    values = dict(flat(results))
    return {
        one.key: {"target": str(one), "value": values[one.key], "met": one.met(values[one.key])}
        for one in targets(results)
        if one.key in values
    }


def table(results: dict[str, Any]) -> str:
    """Write the table of one run."""
    verdicts = judged(results)
    lines = [f"{'':44}{'measured':>12}   target"]
    for key, value in flat({k: v for k, v in results.items() if k not in {"benchmark", "targets"}}):
        verdict = verdicts.get(key)
        shown = ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
        tail = f"{verdict['target']:<10} {'reached' if verdict['met'] else 'MISSED'}" if verdict else ""
        lines.append(f"{key:44}{shown:>12}   {tail}".rstrip())
    return "\n".join(lines)


def linearity(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Cost per binding of each run, and the largest run's over the smallest's: 1.0 is linear, less is better."""
    costs = ("cold_seconds", "cpu_seconds", "restart_cpu_seconds", "cold_vault_reads", "cold_api_writes")
    per = {cost: [run[cost] / run["bindings"] for run in runs] for cost in costs}
    first, last = runs[0], runs[-1]
    grown = last["bindings"] - first["bindings"]
    return {
        "bindings": [run["bindings"] for run in runs],
        "per_1000_bindings": {cost: [round(1000 * one, 3) for one in values] for cost, values in per.items()},
        "largest_over_smallest": {cost: round(values[-1] / values[0], 2) for cost, values in per.items()},
        "rss_mib": [run["rss_mib"] for run in runs],
        "rss_kib_per_further_binding": round(1024 * (last["rss_mib"] - first["rss_mib"]) / grown, 1) if grown else 0.0,
    }


def markdown(runs: list[dict[str, Any]]) -> str:
    """Write one row for each run, as decision 010 has them."""
    head = (
        "bindings over paths",
        "every Secret",
        "nothing left to do",
        "reads, logins, writes by then",
        "CPU by then",
        "restart: writes, until quiet, CPU",
        "peak RSS",
        "load before, after",
    )
    lines = [_row(*head), "|---" * len(head) + "|"]
    for run in runs:
        before, after = run["machine"]["load_average_before_and_after"]
        lines.append(
            _row(
                f"{run['bindings']:,} over {run['paths']:,}",
                f"{run['cold_seconds']} s",
                f"{run['cold_settled_seconds']} s",
                f"{run['cold_vault_reads']:,}, {run['cold_vault_logins']:,}, {run['cold_api_writes']:,}",
                f"{run['cpu_seconds']} s",
                f"{run['restart_api_writes']}, {run['restart_seconds']} s, {run['restart_cpu_seconds']} s",
                f"{run['rss_mib']} MiB",
                f"{before}, {after}",
            )
        )
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
