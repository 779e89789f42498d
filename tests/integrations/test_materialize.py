"""Canonical directories: the same ΔW with one rank and no scaling, written once, checked when it is there."""

import json

import numpy as np
import pytest

from adapterbank.errors import BoundedOnlyError, ConflictError, IncompatibleError, StorageError, UsageError
from adapterbank.peft_format.servers import SERVERS, largest_rank, problems
from adapterbank.ways.materialize import Order
from tests.bank import dense
from tests.bank.variants import with_dora

LLAMA = {"model.layers.0.self_attn.q_proj": (16, 12), "model.layers.0.mlp.down_proj": (12, 20)}


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scaling_patterns_and_rslora_are_folded_and_ranks_are_one(bank, add, tmp_path, dtype):
    how = {"rank": 4, "alpha": 8, "rank_pattern": {"model.layers.0.mlp.down_proj": 2}, "dtype": dtype}
    original = add("sql", modules=LLAMA, **how)
    (done,) = bank.materialize(["sql"], tmp_path / "out", server="vllm")
    folder = tmp_path / "out" / "sql@1"
    assert (done.status, done.rank, done.dtype, done.error) == ("written", 4, dtype, 0.0)
    assert done.path == str(folder) and done.bytes == sum(
        (folder / name).stat().st_size for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    fields = config(folder)
    assert (fields["r"], fields["lora_alpha"], fields["use_rslora"]) == (4, 4, False)
    assert not fields["rank_pattern"] and not fields["alpha_pattern"]
    assert fields["target_modules"] == ["down_proj", "q_proj"] and fields["base_model_name_or_path"] == "tiny/encoder"
    assert dense.distance(dense.deltas(folder), dense.deltas(original)) == 0.0


def test_what_cannot_be_folded_exactly_is_written_as_float32(bank, add, tmp_path):
    original = add("sql", modules=LLAMA, rank=3, alpha=5, use_rslora=True, dtype="bfloat16")
    (done,) = bank.materialize(["sql"], tmp_path / "out")
    assert done.dtype == "float32" and 0 < done.error < 1e-7 and done.error_kind == "measured"
    assert dense.distance(dense.deltas(tmp_path / "out/sql@1"), dense.deltas(original)) == pytest.approx(done.error, rel=1e-2)
    (narrow,) = bank.materialize(["sql"], tmp_path / "narrow", dtype="bfloat16", rank=8)
    assert narrow.dtype == "bfloat16" and 1e-4 < narrow.error < 1e-2 and config(tmp_path / "narrow/sql@1")["r"] == 8
    found = dense.distance(dense.deltas(tmp_path / "narrow/sql@1"), dense.deltas(original))
    assert found == pytest.approx(narrow.error, rel=1e-2)


def test_a_second_time_nothing_is_written_and_damage_is_not_taken_for_it(bank, add, tmp_path):
    add("sql", modules=LLAMA)
    out = tmp_path / "out"
    first, again = (bank.materialize(["sql"], out)[0] for _ in range(2))
    assert (first.status, again.status) == ("written", "unchanged") and again.bytes == first.bytes
    weights = out / "sql@1" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ConflictError, match=r"sql@1 was changed after it was written: adapter_model.safetensors"):
        bank.materialize(["sql"], out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sql@1").write_text("a file")
    with pytest.raises(ConflictError, match="holds something else than sql@1"):
        bank.materialize(["sql"], tmp_path / "other")


def test_the_same_version_in_another_way_is_told_as_that(bank, add, tmp_path):
    add("sql", modules=LLAMA, rank=4)
    add("math", modules=LLAMA, seed=2, rank=4)
    out = tmp_path / "out"
    bank.materialize(["sql"], out)
    with pytest.raises(
        ConflictError, match=r"out/sql@1 holds sql@1 with rank 4 instead of 8, dtype float32 instead of bfloat16"
    ) as told:
        bank.materialize(["sql"], out, rank=8, dtype="bfloat16")
    assert told.value.hint == "name another directory"
    (out / "sql@1").rename(out / "math@1")
    with pytest.raises(ConflictError, match=r"math@1 holds sql@1, not math@1"):
        bank.materialize(["math"], out)


def test_a_dtype_that_is_asked_for_is_not_taken_for_the_one_that_was_written(bank, add, tmp_path):
    """By itself a scaling that is no power of two is written as float32, whatever the adapter's own dtype is."""
    add("sql", modules=LLAMA, rank=3, alpha=5, dtype="bfloat16")
    (done,) = bank.materialize(["sql"], tmp_path)
    assert done.dtype == "float32"
    with pytest.raises(ConflictError, match="dtype float32 instead of bfloat16"):
        bank.materialize(["sql"], tmp_path, dtype="bfloat16")
    assert bank.materialize(["sql"], tmp_path, dtype="float32")[0].status == "unchanged"


def test_the_base_model_is_that_of_the_bank_and_not_of_the_file(bank, make, tmp_path):
    for name, said in (("none", None), ("path", "/home/me/checkpoints/llama")):
        bank.register(make(name, modules=LLAMA, base_model=said, seed=len(name)), name=name, base_model="tiny/llama")
        bank.materialize([name], tmp_path / "out")
        assert config(tmp_path / "out" / f"{name}@1")["base_model_name_or_path"] == "tiny/llama"


@pytest.mark.parametrize(
    "how", [{}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "alpha": 5}, {"rank_pattern": {"model.layers.0.mlp.down_proj": 2}}]
)
def test_the_bound_of_a_directorys_bytes_holds_and_is_close(bank, add, tmp_path, how):
    large = {f"model.layers.{i}.mlp.down_proj": (200, 300) for i in range(8)}
    add("sql", modules=large, rank=4, **how)
    plan = bank.plan_directory("sql", Order())
    bank.write_directory(plan, tmp_path / "out")
    found = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert 0.8 * plan.largest <= found <= plan.largest


def test_a_file_where_a_folder_is_wanted_is_named(bank, add, tmp_path):
    add("sql", modules=LLAMA)
    (tmp_path / "afile").write_text("")
    for folder in ("afile", "afile/below"):
        with pytest.raises(StorageError) as told:
            bank.materialize(["sql"], tmp_path / folder)
        assert told.value.hint == f"{tmp_path / 'afile'} is a file: name a folder"


def test_a_bounded_form_states_its_error(bank, add, tmp_path):
    original = add("sql", modules=LLAMA, dtype="bfloat16")
    with pytest.raises(UsageError, match="no bounded form"):
        bank.materialize(["sql"], tmp_path / "none", form="bounded")
    stated = bank.encode("sql", max_error=0.4).form.error
    (exact,) = bank.materialize(["sql"], tmp_path / "exact")
    assert exact.error == 0.0
    (wide,) = bank.materialize(["sql"], tmp_path / "wide", form="bounded", dtype="float32")
    found = dense.distance(dense.deltas(tmp_path / "wide/sql@1"), dense.deltas(original))
    assert (wide.error, wide.error_kind) == (stated, "measured") and found == pytest.approx(stated, rel=1e-5)
    bank.compact(["sql"], level="bounded", drop_exact=True)
    with pytest.raises(BoundedOnlyError):
        bank.materialize(["sql"], tmp_path / "gone", form="exact")
    (narrow,) = bank.materialize(["sql"], tmp_path / "narrow", dtype="bfloat16")
    assert narrow.error_kind == "bound"
    assert dense.distance(dense.deltas(tmp_path / "narrow/sql@1"), dense.deltas(original)) <= narrow.error


def test_what_a_server_cannot_take_is_refused_before_anything_is_written(bank, add, make, tmp_path):
    add("sql", modules=LLAMA)
    bank.register(with_dora(make("dora", modules=LLAMA)), name="dora")
    with pytest.raises(IncompatibleError, match="dora@1 cannot be served by vllm"):
        bank.materialize(["sql", "dora"], tmp_path / "out", server="vllm")
    assert not (tmp_path / "out").exists()


def test_the_limits_of_servers():
    assert [largest_rank("vllm", rank) for rank in (1, 6, 16, 17, 300)] == [1, 8, 16, 32, 320]
    assert largest_rank("sglang", 24) == 24
    with pytest.raises(UsageError, match="up to rank 128, got 200"):
        largest_rank("lorax", 200)
    with pytest.raises(UsageError, match="expected one of vllm, sglang, lorax, peft"):
        problems("tgi", rank=1, modules=(), carried=(), obstacle=None)


@pytest.mark.parametrize("server", SERVERS)
def test_every_obstacle_is_named(server):
    from adapterbank.lora.layout import ModuleShape

    modules = (ModuleShape("model.embed", 4, 9, 2, "embedding"), ModuleShape("model.layers.0.q_proj", 4, 4, 2))
    found = problems(server, rank=600, modules=modules, carried=("lm_head.weight",), obstacle="DoRA scales columns")
    named = {(problem.code, problem.where) for problem in found if problem.severity == "error"}
    if server == "peft":
        assert not named
        return
    assert {("server_kind", None), ("server_tensor", "lm_head.weight"), ("server_module", "model.embed")} <= named
    assert (("server_rank", None) in named) == bool(SERVERS[server].ranks)


def test_peft_reads_it(bank, add, tmp_path):
    torch = pytest.importorskip("torch")
    from peft import PeftModel

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.query = torch.nn.Linear(12, 16, bias=False)

        def forward(self, x):
            return self.query(x)

    original = add("one", modules={"query": (16, 12)}, rank=3, alpha=7, task_type=None)
    bank.materialize(["one"], tmp_path / "out", rank=8)
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 12)).astype("float32"))
    torch.manual_seed(0)
    base = Block()
    plain = base(x).detach()
    outputs = []
    for folder in (original, tmp_path / "out/one@1"):
        block = Block()
        block.load_state_dict(base.state_dict())
        outputs.append(PeftModel.from_pretrained(block, str(folder))(x).detach())
    assert not torch.allclose(outputs[0], plain, atol=1e-3)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
