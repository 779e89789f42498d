"""Gauges: always the same ΔW, and for svd and procrustes a function of ΔW alone."""

from __future__ import annotations

import pytest
import torch

from adapterbank.errors import UsageError
from adapterbank.lora import gauge as gauges
from adapterbank.lora.adapter import Factors
from adapterbank.lora.delta import delta
from adapterbank.lora.gauge import GAUGES, frame_onto, frames, turned_rows
from adapterbank.lora.pack import pack
from tests.lora.make import make_factors, normal, random_gauge

SHAPES = [(24, 18, 4), (3, 18, 5), (24, 2, 5), (1, 1, 3)]  # d_out, d_in, rank: also ranks above a dimension


def in_gauge(members: list[Factors], gauge: str) -> list[torch.Tensor]:
    pairs = zip(members, frames(members, gauge), strict=True)
    return [turned_rows(f, frame, slice(0, f.d_out + f.d_in)) for f, frame in pairs]


def other_gauge(f: Factors, seed: int) -> Factors:
    G = random_gauge(f.rank, seed)
    return Factors(torch.linalg.solve(G, f.A), f.B @ G, f.scaling)


def product(rows: torch.Tensor, d_out: int) -> torch.Tensor:
    return rows[:d_out] @ rows[d_out:].T


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize(("d_out", "d_in", "rank"), SHAPES)
@pytest.mark.parametrize("scaling", [1.0, 0.25, -2.0])
def test_no_gauge_changes_delta(gauge, d_out, d_in, rank, scaling):
    members = [make_factors(seed, d_out, d_in, rank, scaling) for seed in range(3)]
    for f, rows in zip(members, in_gauge(members, gauge), strict=True):
        torch.testing.assert_close(product(rows, d_out), delta(f), rtol=1e-10, atol=1e-12)


def test_given_is_what_pack_makes():
    f = make_factors(1, 24, 18, 4, scaling=3.0)
    assert torch.equal(in_gauge([f], "given")[0], pack(f, dtype=torch.float64))


@pytest.mark.parametrize("gauge", ["svd", "procrustes"])
def test_balanced_gauges_depend_on_delta_alone(gauge):
    members = [make_factors(seed, 24, 18, 4, scaling=2.0) for seed in range(4)]
    others = [other_gauge(f, seed) for seed, f in enumerate(members)]
    for first, second in zip(in_gauge(members, gauge), in_gauge(others, gauge), strict=True):
        assert (first - second).abs().max() < 1e-9


def test_svd_is_the_balanced_singular_value_decomposition():
    f = make_factors(1, 24, 18, 4, scaling=2.0)
    (rows,) = in_gauge([f], "svd")
    B, A = rows[:24], rows[24:]
    S = torch.diag(torch.linalg.svdvals(delta(f))[:4])
    torch.testing.assert_close(B.T @ B, S)
    torch.testing.assert_close(A.T @ A, S)


def test_signs_do_not_follow_rounding_where_entries_are_equal():
    """Columns like (1, −1): neither a sum nor the largest entry says which sign is which."""
    H = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64) / 2
    f = Factors(A=(H * torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)).T, B=H)
    (rows,) = in_gauge([f], "svd")
    for seed in range(20):
        (other,) = in_gauge([other_gauge(f, seed)], "svd")
        assert (rows - other).abs().max() < 1e-10


def test_rank_deficient_factors_get_zero_columns_not_noise():
    f = make_factors(1, 24, 18, 2)
    padded = Factors(torch.cat([f.A, f.A[:1]]), torch.cat([f.B, -f.B[:, :1]], dim=1))
    (rows,) = in_gauge([padded], "svd")
    assert rows[:, 2:].abs().max() < 1e-7
    torch.testing.assert_close(product(rows, 24), delta(padded))
    zero = Factors(f.A, torch.zeros_like(f.B))
    assert all(rows.abs().max() == 0 for rows in in_gauge([zero], "svd"))


def test_procrustes_makes_turned_copies_equal():
    f = make_factors(1, 24, 18, 4, scaling=0.5)
    rows = in_gauge([other_gauge(f, seed) for seed in range(6)], "procrustes")
    assert all((one - rows[0]).abs().max() < 1e-10 for one in rows)


def test_procrustes_makes_equal_also_where_singular_values_are():
    """With equal singular values √Σ is unique up to a rotation only; turning members onto each other removes it."""
    U, V = torch.linalg.qr(normal(24, 4, seed=1)).Q, torch.linalg.qr(normal(18, 4, seed=2)).Q
    rows = in_gauge([other_gauge(Factors(A=V.T, B=U), seed) for seed in range(5)], "procrustes")
    assert all((one - rows[0]).abs().max() < 1e-9 for one in rows)


def test_procrustes_brings_members_closer_to_their_mean():
    shared = make_factors(100, 24, 18, 4)
    members = [Factors(shared.A + 0.3 * normal(4, 18, seed=s), shared.B + 0.3 * normal(24, 4, seed=s + 50)) for s in range(5)]
    spread = {gauge: torch.stack(in_gauge(members, gauge)).var(dim=0).sum() for gauge in ("svd", "procrustes")}
    assert spread["procrustes"] < 0.9 * spread["svd"]


def test_blocks_of_rows_are_the_rows(monkeypatch):
    monkeypatch.setattr(gauges, "_BLOCK", 5)
    members = [make_factors(seed, 24, 18, 4) for seed in range(3)]
    small = in_gauge(members, "procrustes")
    monkeypatch.undo()
    assert all((a - b).abs().max() < 1e-10 for a, b in zip(small, in_gauge(members, "procrustes"), strict=True))
    frame = frames(members, "svd")[0]
    whole = turned_rows(members[0], frame, slice(0, 42))
    for rows in (slice(0, 24), slice(20, 30), slice(24, 42), slice(30, 31)):
        torch.testing.assert_close(turned_rows(members[0], frame, rows), whole[rows])


def test_a_new_adapter_is_turned_onto_a_frozen_mean():
    f = make_factors(1, 24, 18, 4)
    Q = torch.linalg.qr(normal(4, 4, seed=3)).Q
    mean = in_gauge([f], "svd")[0] @ Q
    rows = turned_rows(f, frame_onto(f, "procrustes", mean), slice(0, 42))
    torch.testing.assert_close(rows, mean)
    alone = turned_rows(f, frame_onto(f, "svd", mean), slice(0, 42))
    torch.testing.assert_close(alone, in_gauge([f], "svd")[0])


def test_an_unknown_gauge_is_named():
    with pytest.raises(UsageError, match="'polar' does not exist: expected one of given, svd, procrustes"):
        frames([make_factors(1, 4, 3, 2)], "polar")
