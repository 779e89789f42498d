"""The flat buffer: places without gaps, views of it, shards that are slices of the whole."""

import pytest
import torch

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.layout import ModuleShape
from adapterbank.serving.slots import SlotLayout

SHAPES = [
    ModuleShape("layers.0.q_proj", 8, 6, 4), ModuleShape("layers.0.down_proj", 6, 12, 2),
    ModuleShape("layers.0.q_proj", 8, 6, 3),
    ModuleShape("layers.1.q_proj", 8, 6, 4), ModuleShape("embed", 6, 20, 2, "embedding"),
]  # fmt: skip


def test_every_element_belongs_to_one_factor_and_equal_ranks_lie_together():
    layout = SlotLayout.of(SHAPES)
    buffer = torch.arange(layout.size, dtype=torch.float64)
    views = layout.views(buffer)
    seen = torch.cat([torch.cat([f.B.flatten(), f.A.T.flatten()]) for f in views.values()])
    assert torch.equal(seen.sort().values, buffer)
    assert [place.whole.rank for place in layout] == [2, 2, 4, 4]
    assert {name: (f.B.shape, f.A.shape) for name, f in views.items()}["layers.0.q_proj"] == ((8, 4), (4, 6))
    views["embed"].A[1, 3] = -1.0
    assert (buffer == -1.0).sum() == 1 and views["embed"].kind == "embedding"


def test_a_rank_for_all_must_hold_every_module():
    assert {place.whole.rank for place in SlotLayout.of(SHAPES, 8)} == {8}
    with pytest.raises(IncompatibleError, match=r"'layers\.0\.q_proj' has rank 4, the buffer rank 2"):
        SlotLayout.of(SHAPES, 2)


@pytest.mark.parametrize("buffer", [torch.zeros(3), torch.zeros(2, 4), torch.zeros(500)[::2]])
def test_only_its_own_buffer_is_taken(buffer):
    with pytest.raises(UsageError, match="expected a contiguous one"):
        SlotLayout.of(SHAPES).views(buffer)


def test_a_shard_holds_slices_of_the_whole():
    layout = SlotLayout.of(SHAPES)
    whole = layout.views(torch.arange(layout.size, dtype=torch.float64))
    for rank in (0, 1):
        part = layout.shard(rank, 2)
        assert part["layers.0.q_proj"].out == range(4 * rank, 4 * rank + 4) and part["layers.0.q_proj"].into == range(6)
        assert part["layers.0.down_proj"].into == range(6 * rank, 6 * rank + 6)
        assert part["embed"].shape == layout["embed"].shape
        views = part.views(torch.zeros(part.size))
        for place in part:
            f, all_ = views[place.whole.name], whole[place.whole.name]
            assert f.B.shape == all_.B[place.out.start : place.out.stop].shape
            assert f.A.shape == all_.A[:, place.into.start : place.into.stop].shape
    assert sum(layout.shard(rank, 2).size for rank in (0, 1)) < 2 * layout.size


def test_a_shard_of_a_shard_is_the_shard_of_the_whole():
    layout = SlotLayout.of(SHAPES)
    assert layout.shard(1, 2).shard(0, 2) == layout.shard(2, 4)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(IncompatibleError, match=r"8 rows cannot be split over 3 workers"):
        SlotLayout.of(SHAPES).shard(0, 3)
    with pytest.raises(UsageError, match="worker 2 of 2"):
        SlotLayout.of(SHAPES).shard(2, 2)


def test_a_plan_that_splits_nothing_or_says_nonsense_is_refused():
    layout = SlotLayout.of(SHAPES)
    with pytest.raises(UsageError, match=r"the plan splits none of the 4 modules, such as 'embed'"):
        layout.shard(0, 2, {"*.query": "column"})
    with pytest.raises(UsageError, match=r"plan: got 'cols' for '\*', expected 'column' or 'row'"):
        layout.shard(0, 2, {"*": "cols"})
    assert layout.shard(0, 1, {"*.query": "column"}) == layout and layout.whole and not layout.shard(0, 2).whole
