"""Row tiles: masks that do not know them, thresholds over a stream, memory that a module bounds."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adapterbank.lora.adapter import Adapter
from adapterbank.merge import METHODS, elementwise
from adapterbank.merge.selection import kth_largest
from adapterbank.merge.streams import kept, stream_key
from tests.merge import references
from tests.merge.factories import adapter, deltas, distance, factors, run

ELEMENTWISE = [name for name, method in METHODS.items() if method.kind == "elementwise"]


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6), density=st.floats(0.01, 1.0), seed=st.integers(0, 2**70))
def test_a_mask_does_not_depend_on_how_it_is_tiled(pieces, density, seed):
    key = stream_key(seed, "ab" * 32, "layer.q")
    starts = np.cumsum([0, *pieces])
    tiled = torch.cat([kept(key, int(start), count, density) for start, count in zip(starts, pieces, strict=False)])
    assert torch.equal(tiled, kept(key, 0, sum(pieces), density))


@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
def test_a_mask_is_the_documented_one(density):
    expected = references.mask(-3, "cd" * 32, "layer.k", (7, 5), density)
    found = kept(stream_key(-3, "cd" * 32, "layer.k"), 0, 35, density).view(7, 5).numpy()
    np.testing.assert_array_equal(found, expected)


def test_philox_of_the_reference_is_the_published_one():
    """Known answers of Random123 for philox4x64-10."""
    assert references.philox4x64((0, 0, 0, 0), (0, 0)) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_a_mask_keeps_its_share(density):
    count = 200_000
    share = kept(stream_key(0, "a", "b"), 0, count, density).double().mean()
    assert abs(share - density) < 5 * (density * (1 - density) / count) ** 0.5
    assert bool(kept(stream_key(0, "a", "b"), 0, 1000, 1.0).all())


@pytest.mark.parametrize("method", ELEMENTWISE)
def test_the_size_of_the_tiles_does_not_change_the_merge(method, monkeypatch):
    adapters = [adapter(seed) for seed in (1, 2, 3)]
    whole = deltas(run(method, adapters).adapter)
    for entries in (1, 40):
        monkeypatch.setattr(elementwise, "TILE_ENTRIES", entries)
        assert distance(deltas(run(method, adapters).adapter), whole) < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1e300) | st.sampled_from([0.0, 1.0, 5e-324]), min_size=1, max_size=40), st.data())
def test_kth_largest_is_that_of_a_sort(entries, data):
    k = data.draw(st.integers(1, len(entries)))
    tiles = torch.tensor(entries, dtype=torch.float64).split(25)
    assert kth_largest(lambda: tiles, k) == sorted(entries, reverse=True)[k - 1]


class LiveBytes(TorchDispatchMode):
    """The largest number of bytes that tensors made under it held at one time; views count once. Sees its own thread only."""

    def __init__(self):
        super().__init__()
        self.holders, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._hold(tensor)
        self.peak = max(self.peak, self.now)
        return out

    def _hold(self, tensor):
        address, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        self.now += 0 if self.holders.get(address) else size
        self.holders[address] = self.holders.get(address, 0) + 1
        weakref.finalize(tensor, self._drop, address, size)

    def _drop(self, address, size):
        self.holders[address] -= 1
        self.now -= 0 if self.holders[address] else size


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ELEMENTWISE)
@pytest.mark.parametrize("count", [2, 6])
def test_at_most_n_plus_2_dense_deltas_of_one_module_are_alive(method, count, one_thread, monkeypatch):
    monkeypatch.setattr(elementwise, "TILE_ENTRIES", 1 << 15)
    d_out, d_in, modules = 1280, 640, 2
    adapters = [
        Adapter({f"m{m}": factors(10 * seed + m, d_out, d_in, 4, dtype=torch.float32) for m in range(modules)})
        for seed in range(count)
    ]
    with LiveBytes() as live:
        run(method, adapters)
    assert 0 < live.peak <= (count + 2) * d_out * d_in * 4


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("scope", ["module", "model"])
def test_tiles_need_one_dense_delta_whatever_the_number_of_adapters(method, scope, one_thread, monkeypatch):
    """The merged one; the rest are tiles, factors, counters and the columns of its cut."""
    monkeypatch.setattr(elementwise, "TILE_ENTRIES", 1 << 15)
    side, count = 2048, 8
    adapters = [Adapter({"m": factors(seed, side, side, 2, dtype=torch.float32)}) for seed in range(count)]
    with LiveBytes() as live:
        run(method, adapters, options={"scope": scope} if method == "ties" else {})
    assert side * side * 4 < live.peak < 2 * side * side * 4


@pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if method.kind not in ("elementwise", "dense") and not method.needs]
)
def test_no_other_method_without_data_builds_a_dense_delta(method, one_thread):
    side = 2048
    adapters = [Adapter({"m": factors(seed, side, side, 2)}) for seed in (1, 2)]
    with LiveBytes() as live:
        run(method, adapters)
    assert 0 < live.peak < side * side * 8 / 10
