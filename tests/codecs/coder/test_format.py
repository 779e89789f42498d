"""The decoder against a slow one that was written from docs/formats.md alone: every factor, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from adapterbank.codecs.coder import Coded, decode, encode, inspect
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter

from . import slow_decoder
from .made import adapter, child, digest, factors, family, same

TINY = {"layer.0": (48, 40, 4), "layer.1": (24, 30, 3)}


def agrees(coded: Coded, references: Mapping[str, bytes] | None = None) -> Adapter:
    """Both decoders give the same bits for ``coded``; returns the adapter."""
    fast = decode(coded.data, references=references, base_model=coded.adapter.base_model)
    slow = slow_decoder.decode(coded.data, references)
    assert list(slow) == list(fast.modules)
    for name, (A, B) in slow.items():
        assert fast.modules[name].A.tolist() == A
        assert fast.modules[name].B.T.tolist() == B
    assert same(fast, coded.adapter)
    return fast


@pytest.mark.parametrize("effort", [0, 1, 3])
@pytest.mark.parametrize("max_error", [0.7, 0.1])
def test_alone_at_every_trellis(effort: int, max_error: float):
    coded = encode(adapter(TINY, seed=effort), Target(max_error=max_error), effort=effort)
    assert slow_decoder.taken_apart(coded.data)[0] == (5 if effort == 3 else 3)
    agrees(coded)


def test_hidden_bits():
    """Rates so high that magnitudes have bits between parity and symbol."""
    coded = encode(adapter(TINY), Target(max_error=1e-4), effort=0)
    _, classes = gains_and_classes(coded.data)
    assert max(map(slow_decoder.hidden, classes)) >= 3
    agrees(coded)


def test_escapes():
    """Outliers far beyond the last symbol of their vector's class."""
    own = factors(200, 300, 1, seed=0)
    own.A[0, 7] *= 60.0
    own.B[11, 0] *= -60.0
    coded = encode(Adapter({"layer": own}), Target(max_error=0.05))
    assert len(slow_decoder.taken_apart(coded.data)[2]["escapes"]) >= 2
    agrees(coded)


def test_vectors_of_several_lanes():
    """Pieces of at most 512 samples that differ by one in length."""
    coded = encode(Adapter({"layer": factors(1030, 515, 2, seed=1)}), Target(max_error=0.2), effort=0)
    assert len(slow_decoder.taken_apart(coded.data)[2]["states"]) == 4 * 2 * (3 + 2)
    agrees(coded)


@pytest.mark.parametrize("steps", [(0.05, 0.1), (0.1, 0.1), (0.1, 0.02)])
def test_a_chain_of_versions_at_any_ratio_of_steps(steps: tuple[float, float]):
    """The second version refines the first, the third the second, which needs the first."""
    versions, references = [adapter(TINY)], dict[str, bytes]()
    for seed in (1, 2):
        versions.append(child(versions[-1], 0.2, seed, rank=1))
    for number, (version, error) in enumerate(zip(versions, (*steps, steps[-1]), strict=True)):
        coded = encode(version, Target(max_error=error), effort=number % 2, references=references)
        assert ("refined" in {module.predict for module in inspect(coded.data).modules}) == (number > 0)
        assert len(coded.references) == number
        agrees(coded, references)
        references[digest(coded.data)] = coded.data


def test_rows_of_one_and_two_references():
    sizes = {"layer.0": (60, 200, 4), "layer.1": (60, 220, 4)}
    references: dict[str, bytes] = {}
    used = []
    for member in family(3, sizes):
        coded = encode(member, Target(max_error=0.05), effort=0, references=references)
        used.append((len(coded.references), {module.predict for module in inspect(coded.data).modules}))
        agrees(coded, references)
        references[digest(coded.data)] = coded.data
    assert used == [(0, {"none"}), (1, {"rows"}), (2, {"rows"})]


def test_nothing_kept_is_zero_of_rank_one():
    zero = Adapter({"layer": factors(5, 4, 2, seed=0), "zero": factors(6, 3, 2, seed=1)})
    zero.modules["zero"].B.zero_()
    decoded = agrees(encode(zero, Target(max_error=0.5)))
    assert decoded.modules["zero"].rank == 1
    assert not decoded.modules["zero"].B.any() and not decoded.modules["zero"].A.any()


def test_sections_and_header_are_as_described():
    coded = encode(adapter(TINY), Target(max_error=0.2))
    _, root_step, sections = slow_decoder.taken_apart(coded.data)
    info = inspect(coded.data)
    assert info.step == root_step**2
    assert info.bits == 8 * len(coded.data) / adapter(TINY).parameters
    assert sum(map(len, sections.values())) == len(coded.data) - 48
    assert [(m.name, m.rank) for m in info.modules] == [("layer.0", 4), ("layer.1", 3)]


def test_both_factors_of_a_component_are_of_equal_length_but_for_rounding():
    """ŝ is shared out evenly, so that neither factor overflows 16-bit formats before the other."""
    decoded = encode(adapter(TINY), Target(max_error=0.05)).adapter
    for own in decoded.modules.values():
        ratio = own.B.norm(dim=0) / own.A.norm(dim=1)
        assert torch.all((ratio - 1).abs() < 0.1)


def gains_and_classes(data: bytes) -> tuple[list[int], list[int]]:
    """Of every component of an object that was coded alone."""
    found = slow_decoder.parts(data, {})[1].values()
    gains = [(g, d) for part in found for g in part.gains for d in (part.d_out, part.d_in)]
    return [g for g, _ in gains], [slow_decoder.class_of(g, d) for g, d in gains]
