"""From an answer to a number: what systems say is read, what is anything else is unknown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.gauge.shapes import SYSTEMS
from tests.crds import drain_cases
from voicekeys.agent.gauge.errors import ABSENT, MALFORMED, NOT_A_NUMBER, Unread
from voicekeys.agent.gauge.number import Metric, Pointer, Where, parse_metric, parse_pointer


def word(where: Where, body: bytes, witness: Where | None = None) -> str:
    with pytest.raises(Unread) as caught:
        where.find(body, witness)
    return caught.value.word


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("calls", [0, 1, 2, 7])
def test_what_systems_answer_is_read(system: str, calls: int) -> None:
    shape = SYSTEMS[system]
    where: Where = parse_pointer(shape.pointer or "") if shape.metric is None else parse_metric(shape.metric)
    witness = None if shape.witness is None else parse_pointer(shape.witness)
    assert where.find(shape.body(calls).encode(), witness) == calls


@pytest.mark.parametrize(
    ("document", "calls"),
    [
        ("3", 3),
        ("0", 0),
        ("-0.0", 0),
        ("2.0", 2),
        ("0.2", 1),
        ("1e2", 100),
        ('"4"', 4),
        ('" 4 "', 4),
        ('"0"', 0),
        ("[]", 0),
        ('[{"id": 1}, {"id": 2}]', 2),
    ],
)
def test_numbers_in_json(document: str, calls: int) -> None:
    assert Pointer(()).find(document.encode(), None) == calls


@pytest.mark.parametrize(
    "document",
    ["null", "true", "false", "{}", '{"a": 1}', '""', '"many"', '"1_0"', '"NaN"', "-1", '"-1"', "1e99", '"1e400"'],
)
def test_what_is_no_number_of_calls(document: str) -> None:
    assert word(Pointer(()), document.encode()) == NOT_A_NUMBER


@pytest.mark.parametrize(
    "body", [b"", b"<html>0</html>", b"-ERR SQL Error\n{}", b"NaN", b"Infinity", b"\xff\xfe\x00", b"[" * 100_000, b"{"]
)
def test_what_is_no_json(body: bytes) -> None:
    assert word(Pointer(()), body) == MALFORMED


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", {"a/b": 1, "m~n": 2, "": 3, "list": [4, {"x": 5}], "0": 6}),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("/", 3),
        ("/list/0", 4),
        ("/list/1/x", 5),
        ("/0", 6),
    ],
)
def test_pointers_of_rfc_6901(pointer: str, found: object) -> None:
    body = json.dumps({"a/b": 1, "m~n": 2, "": 3, "list": [4, {"x": 5}], "0": 6}).encode()
    if isinstance(found, int):
        assert parse_pointer(pointer).find(body, None) == found
    else:
        assert word(parse_pointer(pointer), body) == NOT_A_NUMBER


@pytest.mark.parametrize("pointer", ["/none", "/list/2", "/list/-", "/list/01", "/list/x", "/a/b", "/zero/deeper"])
def test_what_a_pointer_does_not_find_is_absent_and_not_zero(pointer: str) -> None:
    assert word(parse_pointer(pointer), b'{"list": [1, 2], "zero": 0}') == ABSENT


@given(st.lists(st.text(), max_size=4))
def test_every_path_can_be_written(names: list[str]) -> None:
    document: object = 7
    for name in reversed(names):
        document = {name: document}
    text = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    assert parse_pointer(text).find(json.dumps(document).encode(), None) == 7


@pytest.mark.parametrize("text", ["sessions", "#/sessions", "/a~", "/a~2b"])
def test_what_is_no_pointer(text: str) -> None:
    with pytest.raises(ValueError, match="JSON pointer"):
        parse_pointer(text)


class TestWitness:
    """Absent is zero only beside something that shows that this is the right answer."""

    pointer, witness = Pointer(("jobs", "active")), Pointer(("version",))

    def test_with_it_absent_is_zero(self) -> None:
        assert self.pointer.find(b'{"version": "1", "jobs": {}}', self.witness) == 0
        assert self.pointer.find(b'{"version": null, "jobs": {}}', self.witness) == 0

    @pytest.mark.parametrize(
        "body", [b'{"jobs": {}}', b'{"version": "1"}', b'{"version": "1", "jobs": []}', b'{"version": "1", "jobs": 0}']
    )
    def test_without_it_or_in_another_place_absent_is_unknown(self, body: bytes) -> None:
        assert word(self.pointer, body, self.witness) == ABSENT

    def test_a_number_counts_whatever_the_witness_says(self) -> None:
        assert self.pointer.find(b'{"jobs": {"active": 2}}', self.witness) == 2

    def test_what_is_there_and_is_no_number_is_unknown_with_it_too(self) -> None:
        assert word(self.pointer, b'{"version": "1", "jobs": {"active": null}}', self.witness) == NOT_A_NUMBER

    def test_a_series(self) -> None:
        active, up = parse_metric("calls"), parse_metric('up{app="agent"}')
        assert active.find(b'up{app="agent"} 1\n', up) == 0
        assert word(active, b'up{app="other"} 1\n', up) == ABSENT
        assert word(active, b"", up) == ABSENT


@pytest.mark.parametrize(
    ("metric", "text", "calls"),
    [
        ("calls", "calls 3\n", 3),
        ("calls", "calls\t3\n", 3),
        ("calls", "calls 3 1700000000000\n", 3),
        ("calls", "calls{} 3\n", 3),
        ("calls", 'calls 3 # {trace_id="a"} 1\n# EOF\n', 3),
        ("calls", "calls 3\r\n", 3),
        ("calls", "# HELP calls 9\n# TYPE calls gauge\ncalls 1e+00\ncalls_total 5\ncallscalls 7\n", 1),
        ("calls", 'calls{a="1"} 1\ncalls{a="2"} 2.5\ncalls{a="3"} 0\n', 4),
        ('calls{a="1"}', 'calls{a="1",b="x"} 1\ncalls{b="y",a="1"} 2\ncalls{a="2"} 4\ncalls 8\n', 3),
        ('calls{a="x}\\"y\\\\z\\n"}', 'calls{a="x}\\"y\\\\z\\n"} 2\n', 2),
        ('calls { a = "1" , b = "2", }', 'calls{b="2", a="1",} 2\n', 2),
        ("a:calls", "a:calls 0\n", 0),
        ('calls{a=""}', "calls 1\n", None),
        ("calls", "other 1\n", None),
        ("calls", "calls_total 1\n", None),
        ("calls", "<html>calls 0</html>\n", None),
    ],
)
def test_series(metric: str, text: str, calls: int | None) -> None:
    where = parse_metric(metric)
    if calls is None:
        assert word(where, text.encode()) == ABSENT
    else:
        assert where.find(text.encode(), None) == calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("calls NaN\n", NOT_A_NUMBER),
        ("calls +Inf\n", NOT_A_NUMBER),
        ("calls -1\n", NOT_A_NUMBER),
        ("calls none\n", NOT_A_NUMBER),
        ('calls 0\ncalls{a="1"} -1\n', NOT_A_NUMBER),
        ("calls\n", ABSENT),
        ("calls \n", MALFORMED),
        ('calls{a="1"}\n', MALFORMED),
        ('calls{a="1\n', MALFORMED),
        ("calls{a=1} 0\n", MALFORMED),
        ('calls{a="1" b="2"} 0\n', MALFORMED),
        ('calls 0\ncalls{a="1"} 1', MALFORMED),
        ("calls 0", MALFORMED),
    ],
)
def test_series_that_cannot_be_read_are_not_left_out_of_the_sum(text: str, expected: str) -> None:
    assert word(parse_metric("calls"), text.encode()) == expected


@pytest.mark.parametrize("text", drain_cases.METRICS)
def test_a_metric_that_the_crd_takes_is_understood(text: str) -> None:
    assert text.startswith(parse_metric(text).name)


@pytest.mark.parametrize("text", drain_cases.NO_METRICS)
def test_a_metric_that_the_crd_refuses_is_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"metric|labels"):
        parse_metric(text)


@pytest.mark.parametrize("text", drain_cases.POINTERS)
def test_a_pointer_that_the_crd_takes_is_understood(text: str) -> None:
    assert len(parse_pointer(text).tokens) == text.count("/")


@pytest.mark.parametrize("text", drain_cases.NO_POINTERS)
def test_a_pointer_that_the_crd_refuses_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="JSON pointer"):
        parse_pointer(text)


@pytest.mark.parametrize(
    "text", ["", "9calls", '{a="1"}', 'calls{a=~"1"}', "calls{a}", 'calls{a="1"', 'calls{a="1"} > 0', "sum(calls)"]
)
def test_what_is_no_metric(text: str) -> None:
    with pytest.raises(ValueError, match=r"metric|labels"):
        parse_metric(text)


labels = st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text(max_size=5), max_size=3)


@given(st.lists(st.tuples(labels, st.integers(0, 50)), max_size=5), labels)
def test_the_sum_is_that_of_the_series_that_have_the_labels(
    series: list[tuple[dict[str, str], int]], wanted: dict[str, str]
) -> None:
    def written(pairs: dict[str, str]) -> str:
        escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in pairs.items()}
        return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"

    text = "".join(f"calls{written(pairs)} {value}\n" for pairs, value in series)
    matching = [value for pairs, value in series if wanted.items() <= pairs.items()]
    where = parse_metric("calls" + written(wanted))
    assert where == Metric("calls", tuple(sorted(wanted.items())))
    if matching:
        assert where.find(text.encode(), None) == sum(matching)
    else:
        assert word(where, text.encode()) == ABSENT
