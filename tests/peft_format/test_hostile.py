"""Hostile files are refused by code, quickly, and nothing else than RefusedInputError ever comes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapterbank.errors import RefusedInputError
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.header import read
from tests.peft_format.build import config
from tests.peft_format.hostile import DATA, GOOD, _header, cases

CASES = cases()


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len(CASES) >= 60
    assert len({name for name, *_ in CASES}) == len(CASES)


@pytest.mark.parametrize(("code", "settings_", "data"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused_with_its_code(code, settings_, data):
    with pytest.raises(RefusedInputError) as refused:
        inspect(settings_, data)
    assert code in {problem.code for problem in refused.value.problems}
    assert refused.value.exit_code == 7
    assert code in str(refused.value)


def test_the_file_the_corpus_is_made_from_is_good():
    assert inspect(config(), GOOD).facts.parameters == 44


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_mutated_bytes_are_refused_or_read(changes):
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    _only_refusals(config(), bytes(data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_cut_and_extended_files_are_refused(at, more):
    data = GOOD[:at] + more
    if data != GOOD:
        _only_refusals(config(), data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=8), children, max_size=5),
    max_leaves=12,
)
_ENTRY = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "BF16", "I64"]) | _JSON, "shape": _JSON, "data_offsets": _JSON}
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(list(_header())) | st.text(max_size=12), _ENTRY | _JSON, max_size=5))
@example({"a": {"dtype": {}, "shape": [], "data_offsets": [0, 4]}})
def test_any_json_as_a_header_is_refused_or_read(header):
    text = json.dumps(header).encode()
    _only_refusals(config(), len(text).to_bytes(8, "little") + text + DATA)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["r", "lora_alpha", "rank_pattern", "target_modules", "use_bdlora", "bias"]), _JSON))
def test_any_json_in_the_configuration_is_refused_or_read(fields):
    _only_refusals(config(**fields), GOOD)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_configuration_are_refused(data):
    _only_refusals(data, GOOD)


def test_all_problems_of_a_header_are_told_at_once():
    header = _header(a={"dtype": "F3", "shape": [1] * 9, "data_offsets": [5, 2]}, b=None)
    found, problems = read(json_file(header))
    assert found is None
    assert {p.code for p in problems} >= {"tensor_dtype", "too_many_dims", "offsets_order", "tensor_entry"}


def json_file(header) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + DATA


def _only_refusals(settings_: bytes, data: bytes) -> None:
    try:
        inspect(settings_, data)
    except RefusedInputError as refused:
        assert refused.problems
