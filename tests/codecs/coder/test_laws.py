"""What an encoding promises: the target is met by the decoded bytes, and more effort is not worse."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from adapterbank.codecs.coder import decode, encode, inspect
from adapterbank.codecs.target import Target
from adapterbank.errors import ErrorBoundError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.lora.delta import delta_error

from .made import MIDDLE, adapter, digest, factors, same

ORIGINAL = adapter(MIDDLE, fall=0.3)
LARGE = adapter({f"layer.{i}": (320, 256, 8) for i in range(4)}, fall=0.1)  # where components come and go in small steps


@pytest.mark.parametrize("max_error", [0.3, 0.1, 0.02])
def test_an_error_is_met_from_below_by_the_decoded_bytes(max_error: float):
    coded = encode(LARGE, Target(max_error=max_error), effort=0)
    measured = delta_error(LARGE, decode(coded.data))
    assert 0.99 * max_error < measured.total <= max_error
    assert coded.error == measured


@pytest.mark.parametrize("max_error", [0.6])
def test_an_error_can_be_met_where_single_components_decide(max_error: float):
    own = adapter({f"layer.{i}": (320, 256, 8) for i in range(4)}, fall=0.3)
    assert 0.94 * max_error < encode(own, Target(max_error=max_error), effort=0).error.total <= max_error


@pytest.mark.parametrize("bits", [0.3, 4.0])
def test_a_size_is_met_from_below_by_all_bytes(bits: float):
    coded = encode(LARGE, Target(bits=bits), effort=0)
    assert 0.97 * bits < 8 * len(coded.data) / LARGE.parameters <= bits
    assert coded.error == delta_error(LARGE, coded.adapter)


def test_a_finer_step_is_larger_and_nearer():
    coarse, fine = (encode(ORIGINAL, Target(step=step), effort=0) for step in (0.8, 0.4))
    assert len(coarse.data) < len(fine.data) and coarse.error.total > fine.error.total
    assert abs(inspect(coarse.data).step / inspect(fine.data).step - 2) < 1e-5


def test_an_error_below_what_float32_holds_is_refused():
    with pytest.raises(ErrorBoundError):
        encode(adapter(), Target(max_error=1e-9), effort=0)


def test_fewer_bits_than_the_layout_needs_are_refused():
    with pytest.raises(ErrorBoundError):
        encode(adapter(), Target(bits=0.001), effort=0)


@pytest.mark.parametrize("effort", [-1, 4, 100])
def test_an_effort_that_does_not_exist_is_refused(effort: int):
    with pytest.raises(UsageError):
        encode(adapter(), Target(bits=1), effort=effort)


@pytest.mark.parametrize(
    "wrong", [{}, {"bits": 1.0, "max_error": 0.1}, {"bits": 0.0}, {"max_error": -1.0}, {"step": float("inf")}]
)
def test_a_target_that_is_none_is_refused(wrong: dict[str, float]):
    with pytest.raises(UsageError):
        Target(**wrong)


def test_more_effort_is_not_worse():
    """Bytes at one error, to 1 %."""
    sizes = [len(encode(ORIGINAL, Target(max_error=0.25), effort=effort).data) for effort in (0, 1, 3)]
    assert all(later <= 1.01 * earlier for i, earlier in enumerate(sizes) for later in sizes[i + 1 :])
    assert sizes[2] < sizes[0]


@pytest.mark.parametrize("max_error", [0.4, 0.05])
def test_another_gauge_of_the_same_adapter_is_coded_alike(max_error: float):
    """(B·G, G⁻¹·A) with a condition number of 10."""
    other = {name: regauged(own, seed) for seed, (name, own) in enumerate(ORIGINAL.modules.items())}
    first, second = (encode(each, Target(max_error=max_error), effort=0) for each in (ORIGINAL, Adapter(other)))
    assert abs(len(second.data) / len(first.data) - 1) < 0.01
    assert abs(second.error.total / first.error.total - 1) < 0.01


def regauged(own: Factors, seed: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(own.rank, own.rank, generator=generator).double()).Q for _ in "lr")
    G = left @ torch.diag(torch.logspace(0, 1, own.rank).double()) @ right
    return Factors((torch.linalg.inv(G) @ own.A.double()).float(), (own.B.double() @ G).float(), own.scaling)


def test_scaling_is_folded_in():
    """s·B·A is coded as (s·B)·A is, and comes back with scaling 1."""
    scaled = Adapter({name: Factors(own.A, own.B, 2.0) for name, own in ORIGINAL.modules.items()})
    folded = Adapter({name: Factors(own.A, 2.0 * own.B) for name, own in ORIGINAL.modules.items()})
    first, second = (encode(each, Target(max_error=0.3), effort=0) for each in (scaled, folded))
    assert {own.scaling for own in first.adapter.modules.values()} == {1.0}
    assert abs(len(first.data) / len(second.data) - 1) < 0.01
    assert delta_error(folded, first.adapter).total <= 0.3 + 1e-6


def test_progress_counts_up_to_what_was_planned():
    told: list[tuple[int, int]] = []
    encode(adapter(), Target(max_error=0.3), progress=lambda done, planned: told.append((done, planned)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= planned for done, planned in told) and told[-1][0] == told[-1][1]


def test_the_same_bytes_and_factors_for_every_number_of_threads():
    threads = torch.get_num_threads()
    large = Adapter({"layer.0": factors(900, 700, 8, seed=3, fall=0.1), "layer.1": factors(300, 500, 8, seed=4)})
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            coded = encode(large, Target(step=0.5))
            found.append((digest(coded.data), coded.adapter))
    finally:
        torch.set_num_threads(threads)
    assert len({data for data, _ in found}) == 1
    assert all(same(found[0][1], each) for _, each in found)


def test_another_process_with_other_threads_decodes_to_the_same_bits(tmp_path):
    coded = encode(adapter(), Target(max_error=0.1), effort=0)
    (tmp_path / "object").write_bytes(coded.data)
    program = (
        "import hashlib, json, pathlib, sys, torch\n"
        "torch.set_num_threads(3)\n"
        "from adapterbank.codecs.coder import decode\n"
        "found = decode(pathlib.Path(sys.argv[1]).read_bytes()).modules.values()\n"
        "print(json.dumps([hashlib.sha256(m.numpy().tobytes()).hexdigest() for f in found for m in (f.A, f.B)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "object"], capture_output=True, text=True, check=True)
    own = [digest(m.numpy().tobytes()) for f in coded.adapter.modules.values() for m in (f.A, f.B)]
    assert json.loads(done.stdout) == own
