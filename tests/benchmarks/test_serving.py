"""The benchmark of serving on a tiny Llama: what it times is right, and its figures are what they say."""

import pytest
import torch

from adapterbank.serving import kernels
from adapterbank.serving.slots import SlotLayout
from benchmarks.harness import Spread
from benchmarks.serving import __main__ as command
from benchmarks.serving import cold, front, llamas, mixed, pages, rivals, switch, traffic

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(llamas.SIZES, "tiny", (64, 160, 32, 2))
    monkeypatch.setattr(switch, "COPIED", 1 << 16)


def bench(**given):
    return switch.Bench(CPU, ["tiny"], ranks=(8,), rounds=2, dtype=torch.float32, say=lambda text: None, **given)


@pytest.mark.parametrize("name", llamas.forms())
def test_every_form_that_is_timed_is_a_valid_adapter(name):
    layout = SlotLayout.of(llamas.shapes("tiny", 8))
    form = llamas.forms()[name](layout, CPU, 2)
    outs = [torch.full((layout.size,), torch.nan) for _ in range(2)]
    for out, backend in zip(outs, (kernels.backend_for("auto"), "reference"), strict=True):
        kernels.write([form.adapters[1]], [out], backend=backend)
    assert torch.equal(*outs) and outs[0].any()
    assert form.resident(10) - form.resident(9) == form.adapters[0].nbytes
    if name.startswith("rmm"):
        assert form.shared == form.adapters[0].basis.nbytes >= llamas.needs(name, layout)


def test_the_fixed_width_form_has_the_size_of_its_quality():
    layout = SlotLayout.of(llamas.shapes("1B", 16, 2))
    for quality, (share, bits) in llamas.QUALITIES.items():
        form = llamas.forms()[f"fixed {quality}"](layout, CPU, 1)
        assert 32 * form.adapters[0].words.numel() / layout.size == pytest.approx(share * bits, rel=0.08)


def test_rivals_bring_the_other_adapter(tmp_path):
    shapes = llamas.shapes("tiny", 8)
    out = torch.ones(SlotLayout.of(shapes).size)
    jobs = rivals.jobs(tmp_path, shapes, out)
    for number in range(3):
        for job in jobs.values():
            job(number)
    assert not out.any()
    first, second = (jobs["safetensors to device"](number) for number in (0, 1))
    assert set(first) == set(second) and not torch.equal(next(iter(first.values())), next(iter(second.values())))


def test_load_counts_hits_and_growth():
    load = traffic.Load(adapters=8, threads=2, requests=6, switches=20)
    zipf, growth = traffic.measure(bench(layers=1), load)
    assert (zipf["requests"], growth["switches"]) == (12, 20)
    assert 0.0 <= zipf["hit_rate"] <= 1.0 and zipf["p50_seconds"] <= zipf["p99_seconds"]


def test_the_ways_through_a_mixed_batch_agree(monkeypatch):
    layout = SlotLayout.of([llamas.shapes("tiny", 16, 1)[0]])
    made = llamas.forms()["rmm p=4 bfloat16"](layout, CPU, 3)
    jobs = mixed._jobs(bench(), layout, {f"a{i}": each for i, each in enumerate(made.adapters)}, torch.randn(3, 64))
    torch.testing.assert_close(jobs["apply"](0), jobs["write each"](0), rtol=1e-4, atol=1e-2)
    monkeypatch.setattr(mixed, "COUNTS", (2,))
    (row,) = mixed.measure(bench())
    assert row["adapters"] == 2 and row["peft_over_apply"].median > 0


def test_tables_and_targets_have_a_line_for_each_row(monkeypatch):
    chosen = {"raw int8": llamas.forms()["raw int8"]}
    monkeypatch.setattr(llamas, "forms", lambda: chosen)
    rows = [*switch.measure(bench(layers=1)), {"case": "error", "form": "raw int8", "error": 0.01}]
    pinned = {"case": "switch", "llama": "tiny", "rank": 8, "form": "pinned copy", "seconds": Spread.of([1.0])}
    shown = pages.tables([*rows, pinned], "cpu")["serving switch cpu"].splitlines()
    assert len(shown) == 2 + 6 and shown[2].endswith("| 0.010 |")
    assert all(line.count("|") == shown[0].count("|") for line in shown)
    assert [target.limit for target in command.targets([*rows, pinned], "cpu")] == [command.SHARE]
    assert [target.limit for target in command.targets([*rows, pinned], "cuda")] == [command.SHARE, command.PEFT]


def test_the_front_has_what_nothing_beats(tmp_path):
    row = {"case": "switch", "llama": "1B", "rank": 16}
    measured = {"good": (0.1, 2.0, 5.0), "small": (0.3, 1.0, 1.0), "beaten": (0.3, 3.0, 1.0), "exact": (0.0, 9.0, 9.0)}
    rows = [{"case": "error", "form": form, "error": error} for form, (error, _, _) in measured.items()]
    rows += [
        row | {"form": form, "seconds": Spread.of([ms / 1e3]), "resident_bytes": {"1000": 1e9 * each}}
        for form, (_, ms, each) in measured.items()
    ]
    assert [point.form for point in front.front(front.points(rows))] == ["exact", "good", "small"]
    assert "`good` (0.100, 2 ms, 5 MB)" in front.sentence(rows) and "beaten`" not in front.sentence(rows)
    assert front.sentence([]) == ""


def test_cold_start_reads_a_bank_in_a_process_of_its_own(tmp_path):
    shapes = llamas.shapes("tiny", 8, 1)
    given = {"bank": str(tmp_path / "bank"), "device": "cpu", "form": "fixed", "backend": "auto"}
    given |= {"folder": cold._bank(tmp_path, shapes), "shapes": [(s.name, s.d_out, s.d_in, s.rank) for s in shapes]}
    for program in (cold.OURS, cold.PEFTS):
        seconds = cold._run(program, given)
        assert seconds["again"] > 0 and sum(seconds[key] for key in ("import", "open", "first", "again")) < seconds["process"]
