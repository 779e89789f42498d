"""M2N2, model merging of natural niches ("Competition and Attraction Improve Model Fusion", GECCO 2025, arXiv 2508.16204).

Evolution without gradients: an archive of merges that compete for data points (a point that many answer is worth less to
each), parents chosen by that fitness and by what the other one adds, children by spherical interpolation. A genome is the
coefficients ``[n, L]`` of a merge: slerp(a, b) is a combination of a and b, and its angle follows from the inner products of
the deltas, so nothing is built before it is evaluated. As in the authors' code: archive of 20, α = 1, at t = w left of a
random split point and 1 − w right of it, angle from the whole vectors, no mutation of trained models.

Ours: vectors are the deltas, not the whole weights; the split point falls between modules in the model's own order, each as
likely as its size; the archive starts with the adapters alone; and the best merge ever seen by mean score over tasks is kept
beside the archive, as competition may drop it. So the best is never below the best parent, on the data it was found on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from adapterbank.calibration.attached import Site, attached
from adapterbank.calibration.evolution import Evaluate, Evolution, Rules, depth_shares, evolve
from adapterbank.calibration.objectives import checked, point_scores
from adapterbank.calibration.record import Progress, check_names, judge, learned
from adapterbank.calibration.spherical import inner_products
from adapterbank.calibration.tasks import Setting
from adapterbank.lora.adapter import Adapter
from adapterbank.merge.artefacts import Coefficients
from adapterbank.merge.options import Hint

Generations = Annotated[int, Hint("children made, each evaluated once on all tasks", at_least=0)]
ArchiveSize = Annotated[int, Hint("merges kept at a time", above=1)]
Alpha = Annotated[float, Hint("how hard data points are contested; 0 is a plain genetic algorithm", at_least=0.0)]
Score = Annotated[Literal["correct", "likelihood"], Hint("a data point counts 1 if answered right, or its class's probability")]
Kept = Annotated[int, Hint("how many merges to return, best first", above=0)]


def natural_niches(  # noqa: PLR0913 - the options are keyword-only
    setting: Setting,
    adapters: Sequence[Adapter],
    names: Sequence[str],
    seed: int = 0,
    progress: Progress | None = None,
    *,
    generations: Generations = 100,
    archive_size: ArchiveSize = 20,
    alpha: Alpha = 1.0,
    score: Score = "correct",
    keep: Kept = 1,
) -> tuple[Coefficients, ...]:
    """The best merges by their mean score over tasks, best first; ``before`` judges the best adapter alone.

    Raises UsageError for tasks without batches or labels.
    """
    check_names(names, adapters)
    checked(setting.tasks, labelled=True)
    rules = Rules(generations, archive_size, alpha)
    with attached(setting.model, adapters) as site:
        evaluate, worth = scoring(setting, site, score)
        depth = _depth(setting, site, adapters)
        found = evolve(evaluate, worth, inner_products(adapters), depth, rules, seed, progress)
        options = {"generations": generations, "archive_size": archive_size, "alpha": alpha, "score": score, "keep": keep}
        about: dict[str, Any] = {"method": "m2n2", "options": options, "seed": seed, "objective": score}
        about |= {"trace": found.trace, "before": judge(setting, site, found.founder)}
        chosen = ranked(found, worth)[:keep]
        return tuple(learned(site, names, each, {**about, "after": judge(setting, site, each)}) for each in chosen)


def scoring(
    setting: Setting, site: Site, score: Literal["correct", "likelihood"]
) -> tuple[Evaluate, Callable[[Tensor], float]]:
    """The scores ``[J]`` of coefficients on the data points of all tasks, and their worth: the mean over tasks of the means."""
    counts: Mapping[str, int] = {}

    def evaluate(coefficients: Tensor) -> Tensor:
        nonlocal counts
        site.coefficients = coefficients
        found = {name: point_scores(task, setting.model, score) for name, task in setting.tasks.items()}
        counts = {name: len(each) for name, each in found.items()}
        return torch.cat(list(found.values()))

    def worth(scores: Tensor) -> float:
        return sum(float(part.mean()) for part in torch.split(scores, list(counts.values()))) / len(counts)

    return evaluate, worth


def ranked(found: Evolution, worth: Callable[[Tensor], float]) -> list[Tensor]:
    """The best genome ever seen, then the others of the archive by their worth."""
    order = sorted(range(len(found.archive)), key=lambda k: -worth(found.archive.scores[k]))
    genomes = [found.archive.genomes[k] for k in order]
    return [found.best, *(genome for genome in genomes if not torch.equal(genome, found.best))]


def _depth(setting: Setting, site: Site, adapters: Sequence[Adapter]) -> Tensor:
    sizes = [next(f.d_out * f.d_in for a in adapters if (f := a.modules.get(name)) is not None) for name in site.modules]
    return depth_shares([name for name, _ in setting.model.named_modules()], sizes, site.modules)
