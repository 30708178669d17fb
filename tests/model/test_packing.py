from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import orjson

from voicekeys.model.packing import pack
from voicekeys.model.secret import SecretRecord, SecretView
from voicekeys.reconcilers.inventory import pack_status

COUNT = 4_000
PAGE = os.sysconf("SC_PAGESIZE")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_it_is_json() -> None:
    assert orjson.loads(pack({"b": [1, None, "é"], "a": {}})) == {"b": [1, None, "é"], "a": {}}


def test_sorted_keys_make_equal_objects_equal_bytes() -> None:
    assert pack({"b": 1, "a": 2}, sort_keys=True) == pack({"a": 2, "b": 1}, sort_keys=True)


def test_what_is_kept_of_a_secret_and_of_a_status_takes_as_much_memory_as_it_is_long() -> None:
    tracemalloc.stop()
    text = "x" * 300
    before = resident()
    secrets = [SecretRecord(SecretView("u", "Opaque", {}, {"a": text}, (), {}), n) for n in range(COUNT)]
    statuses = [pack_status({"lastError": text}) for _ in range(COUNT)]
    each = (resident() - before) / (len(secrets) + len(statuses))
    assert each < 1_500, f"{each:.0f} bytes of memory for some 350 bytes of text"
