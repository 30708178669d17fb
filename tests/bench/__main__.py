"""`hatch run bench sync`: what the operator costs. `hatch run bench drain`: are calls cut? A table each, and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench import drain_command, report, sync
from tests.bench.environment import image_python
from tests.bench.world import Sizes

SCALE = (1_000, 3_000, 10_000)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="bench", description="Measure the operator on a real API server and Vault.")
    kinds = made.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("sync", help="Vault to Secrets: cold start, idle, changes, restart, fan-out")
    one.add_argument("--bindings", type=int, default=10_000)
    one.add_argument("--paths", type=int, default=1_000)
    one.add_argument("--namespaces", type=int, default=1, help="one identity, so one login, in each")
    one.add_argument("--agents", type=int, default=0, help="how many bindings have a Deployment")
    one.add_argument("--interval", type=int, default=60, help="of the store's polls, seconds")
    one.add_argument("--idle", type=float, default=120.0, help="seconds of watching it idle")
    one.add_argument("--notifies", type=int, default=100, help="changes told by POST /notify")
    one.add_argument("--polled", type=int, default=50, help="paths that change untold, all at once")
    one.add_argument("--fan", type=int, default=1_000, help="bindings of one path that changes")
    one.add_argument(
        "--small", action="store_true", help="1,000 bindings, 100 paths, 180 s idle: beside peers' numbers"
    )
    one.add_argument("--scale", action="store_true", help="1,000, 3,000 and 10,000 bindings in one run: is it linear?")
    one.add_argument("--json", type=Path, metavar="FILE", help="write the results there as one object")
    one.add_argument("--python", help="interpreter that runs the operator (default: one with what its image has)")
    one.add_argument(
        "--profile", type=Path, metavar="FILE", help="run under cProfile: FILE.1, and FILE.2 after restart"
    )
    drain_command.add_to(kinds)
    return made


def plan(args: argparse.Namespace, bindings: int, paths: int) -> sync.Plan:
    """What the arguments ask for, at a given size."""
    sizes = Sizes(bindings, paths, args.namespaces, args.agents)
    fan = min(args.fan, bindings)
    python = args.python or image_python(_say)
    return sync.Plan(sizes, args.interval, args.idle, args.notifies, args.polled, fan, python, args.profile)


def _say(line: str) -> None:
    print(f"· {line}", flush=True)


def main() -> int:
    """Run what was asked for; the exit code is 1 when a target is missed."""
    args = parser().parse_args()
    return drain_command.run(args, _say) if args.kind == "drain" else run_sync(args)


def run_sync(args: argparse.Namespace) -> int:
    """Measure sync; 1 when a target is missed."""
    sizes = [(args.bindings, args.paths)]
    if args.small:
        sizes, args.idle, args.interval = [(1_000, 100)], 180.0, 60
    if args.scale:
        sizes = [(count, count // 10) for count in SCALE]
    runs = []
    for bindings, paths in sizes:
        results = sync.measure(plan(args, bindings, paths), say=_say)
        results["targets"] = report.judged(results)
        print(f"\n{report.table(results)}\n", flush=True)
        runs.append(results)
    if args.small:
        print(report.PEERS)
    outcome = {"benchmark": "sync", "runs": runs, "linearity": report.linearity(runs)} if args.scale else runs[0]
    if args.scale:
        print(json.dumps(outcome["linearity"], indent=2))
        print(f"\n{report.markdown(runs)}\n")
    if args.json:
        args.json.write_text(json.dumps(outcome, indent=2) + "\n")
    return 0 if all(one["met"] for run in runs for one in run["targets"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
