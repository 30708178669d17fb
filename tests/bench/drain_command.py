"""The command line of `hatch run bench drain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.drain import report
from tests.bench.drain.run import Plan, measure
from tests.lab import LabError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

MISSED, INVALID, LACKING = 1, 2, 3


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    plan = Plan()
    one = kinds.add_parser(
        "drain", help="calls on real nodes while a key changes: ours, rollout restart, preStop sleep"
    )
    one.add_argument("--rotations", type=int, default=plan.rotations, help="of each arm; 0: none (with --long-call)")
    one.add_argument("--rate", type=float, default=plan.rate, help="calls a second: half SIP, half WebSocket")
    one.add_argument("--shortest", type=float, default=plan.shortest, help="call, seconds")
    one.add_argument("--longest", type=float, default=plan.longest, help="call, seconds")
    one.add_argument("--replicas", type=int, default=plan.replicas, help="agents of each arm")
    one.add_argument("--warm-up", type=float, default=plan.warm_up, help="seconds of load before an arm's key changes")
    one.add_argument("--long-call", type=float, default=0.0, metavar="MINUTES", help="one drain with a call so long")
    one.add_argument("--json", type=Path, metavar="FILE", help="write the results there as one object")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Measure; 0 when all targets are met, 1 when one is missed, 2 when the run is no test, 3 when something lacks."""
    plan = Plan(
        args.rotations, args.rate, args.shortest, args.longest, args.replicas, args.warm_up, long_call=args.long_call
    )
    try:
        results = measure(plan, say)
    except LabError as error:
        say(f"cannot measure: {error}")
        return LACKING
    results["targets"] = report.judged(results)
    results["invalid"] = report.invalid(results)
    print(f"\n{report.table(results)}\n", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    if results["invalid"]:
        return INVALID
    return 0 if all(one["met"] for one in results["targets"].values()) else MISSED
