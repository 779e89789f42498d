"""Reconstructing one adapter, against a copy of as many bytes.

    python -m benchmarks.reconstruct [--device cuda] [--rows 2621440] [--rounds 25]

The defaults are the linear layers of an 8-billion-parameter model at rank 16 with p = 3 in float32. Bytes count each array
once: mean, components and coefficients are read, the rows are written. The copy moves the same total, reading half of it and
writing half of it. Everything is allocated before. Needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from adapterbank.errors import PlatformError
from adapterbank.rmm.reconstruct import backend_for, compiler, reconstruct
from benchmarks.harness import RESULTS, Job, Report, Spread, Target, interleaved, ratios

ROWS, RANK, COMPONENTS, ROUNDS = 2_621_440, 16, 3, 25
SHARE = 0.8  # of the copy's bandwidth


def measure(device: str = "cpu", rows: int = ROWS, rounds: int = ROUNDS) -> Report:
    """Every backend that runs here, and the naive einsum, beside the copy."""
    jobs, total = _jobs(torch.device(device), rows)
    for job in jobs.values():
        job(0)  # compiles, and touches every page
    taken = interleaved(jobs, rounds)
    figures = [
        {
            "case": name,
            "seconds": Spread.of(seconds),
            "gb_per_s": total / Spread.of(seconds).median / 1e9,
            "of_copy": ratios(taken["copy"], seconds),
        }
        for name, seconds in taken.items()
    ]
    best = max((row for row in figures if row["case"] in ("blocks", "compiled")), key=lambda row: row["of_copy"].median)
    settings = {"device": device, "rows": rows, "rank": RANK, "components": COMPONENTS, "dtype": "float32", "bytes": total}
    settings |= {"rounds": rounds, "threads": torch.get_num_threads(), "auto": backend_for("auto", device)}
    settings |= {"compiler": Path(compiler() or "none").name}
    target = Target(f"bandwidth of {best['case']} over the copy's", best["of_copy"].median, SHARE, at_least=True)
    return Report("reconstruct" if device == "cpu" else f"reconstruct-{device}", settings, figures, [target])


def _jobs(device: torch.device, rows: int) -> tuple[dict[str, Job], int]:
    """The candidates over preallocated arrays, and the bytes that each must move."""
    draw = torch.Generator(device).manual_seed(0)
    mean = torch.randn(rows, RANK, generator=draw, device=device)
    components = torch.randn(COMPONENTS, rows, RANK, generator=draw, device=device)
    coefficients, out = torch.randn(rows, COMPONENTS, generator=draw, device=device), torch.empty_like(mean)
    total = sum(part.nbytes for part in (mean, components, coefficients, out))
    source = torch.randn(total // 8, generator=draw, device=device)
    target = torch.empty_like(source)

    def einsum(_: int) -> object:
        return torch.add(mean, torch.einsum("dp,pdr->dr", coefficients, components), out=out)

    def backend(name: str) -> Job:
        return lambda _: reconstruct(mean, components, coefficients, out, backend=name)

    jobs: dict[str, Job] = {"copy": lambda _: target.copy_(source), "einsum": einsum, "blocks": backend("blocks")}
    try:
        jobs[backend_for("compiled", device)] = backend("compiled")
    except PlatformError as reason:
        print(reason.message)
    return {name: _waited(job, device) for name, job in jobs.items()}, total


def _waited(job: Job, device: torch.device) -> Job:
    """``job``, done when it returns: on a GPU it is otherwise only queued."""
    if device.type == "cpu":
        return job
    return lambda number: (job(number), torch.cuda.synchronize(device))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    report = measure(given.device, given.rows, given.rounds)
    print(report.text())
    report.store(given.results)


if __name__ == "__main__":
    main()
