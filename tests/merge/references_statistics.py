"""Merges from statistics once more: dense, in numpy, by other algorithms than the package's."""

import numpy as np

from tests.merge.artefacts import fisher_of, gram_of


def signed(stack, weights):
    return [np.sign(w) * delta for w, delta in zip(weights, stack, strict=True)]


def regmean(deltas, weights, names, seed, reduce_non_diagonal_ratio=0.95, ridge=1e-6, whiten=True, grams=None):
    """Stacks a square root of every Gram matrix as if it were data, and lets ``lstsq`` fit the adapters' answers."""
    out = {}
    for m, stack in deltas.items():
        d_in = stack[0].shape[1]
        own = [gram_of(name, m, d_in).numpy() for name in names] if grams is None else grams[m]
        own = [np.where(np.eye(d_in) > 0, G, reduce_non_diagonal_ratio * G) for G in own]
        level = ridge * sum(abs(w) * np.trace(G) / d_in for w, G in zip(weights, own, strict=True)) / np.abs(weights).sum()
        data, answers = [], []
        for w, G, delta in zip(weights, own, signed(stack, weights), strict=True):
            values, vectors = np.linalg.eigh(G + level * np.eye(d_in))
            X = np.sqrt(abs(w)) * np.sqrt(values.clip(0))[:, None] * vectors.T
            data.append(X)
            answers.append(X @ delta.T)
        out[m] = np.linalg.lstsq(np.vstack(data), np.vstack(answers), rcond=None)[0].T
    return out


def fisher(deltas, weights, names, seed, normalize_fisher_weight=True, minimal_fisher_weight=1e-6, fishers=None):
    """Entry by entry."""
    F = (
        {m: [fisher_of(n, m, *stack[0].shape).numpy() for n in names] for m, stack in deltas.items()}
        if fishers is None
        else fishers
    )
    if normalize_fisher_weight:
        norms = [np.sqrt(sum((F[m][i] ** 2).sum() for m in F)) for i in range(len(names))]
        F = {m: [own / norm for own, norm in zip(F[m], norms, strict=True)] for m in F}
    entries = sum(F[m][0].size for m in F)
    means = [sum(F[m][i].sum() for m in F) / entries for i in range(len(names))]
    floor = minimal_fisher_weight * np.average(means, weights=np.abs(weights))
    out = {}
    for m, stack in deltas.items():
        out[m] = np.zeros_like(stack[0])
        for place in np.ndindex(out[m].shape):
            above = sum(w * (own[place] + floor) * delta[place] for w, own, delta in zip(weights, F[m], stack, strict=True))
            out[m][place] = above / sum(abs(w) * (own[place] + floor) for w, own in zip(weights, F[m], strict=True))
    return out


ON_DELTAS = {"regmean": regmean, "regmean_plus_plus": regmean, "fisher": fisher}
