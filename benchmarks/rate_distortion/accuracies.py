"""Task accuracy of many forms of the same adapters, the tasks shared out to processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path

from adapterbank.lora.adapter import Adapter
from benchmarks.rate_distortion.encoder import Tasks
from benchmarks.rate_distortion.packing import Packed, packed, unpacked

ORIGINAL, OFF = "originals", "adapters off, heads kept"

Forms = Mapping[str, Mapping[str, Adapter]]


def accuracies(
    data: Path, heads: str, forms: Forms, lines: int, pool: Executor, told: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """The accuracy of every form on every task, by label, then task; a form is a mapping from task to adapter."""
    tasks = list(next(iter(forms.values())))
    jobs = {}
    for task in tasks:
        arrays = {label: packed(adapters[task]) for label, adapters in forms.items() if adapters}
        jobs[task] = pool.submit(of_task, data, heads, task, arrays, lines)
    found: dict[str, dict[str, float]] = {}
    for number, (task, job) in enumerate(jobs.items(), start=1):
        for label, accuracy in job.result().items():
            found.setdefault(label, {})[task] = accuracy
        told(f"{heads}: accuracy {number}/{len(tasks)} tasks, {len(forms)} forms")
    return found


def of_task(data: Path, heads: str, task: str, forms: Mapping[str, Packed], lines: int) -> dict[str, float]:
    """One task's accuracies, and that without an adapter."""
    tasks = Tasks(data, heads, [task], lines)
    return {label: tasks.accuracy(task, unpacked(arrays)) for label, arrays in forms.items()} | {
        OFF: tasks.accuracy(task, None)
    }
