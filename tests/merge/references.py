"""Every method once more: dense, by its formula, in numpy and plain loops; nothing is shared with the package."""

import hashlib
from math import floor

import numpy as np

MASK64 = (1 << 64) - 1


def philox4x64(counter, key):
    """One block of Philox4x64-10, from the paper's definition: four words from a counter of four and a key of two."""
    x, (k0, k1) = list(counter), key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(second >> 64) ^ x[1] ^ k0, second & MASK64, (first >> 64) ^ x[3] ^ k1, first & MASK64]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK64, (k1 + 0xBB67AE8584CAA73B) & MASK64
    return x


def mask(seed, name, module, shape, density):
    """A DARE mask by the steps of docs/methods.md."""
    digest = hashlib.sha256("\n".join([str(seed), name, module]).encode()).digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    out = np.zeros(shape, dtype=bool)
    for i in range(shape[0]):
        for j in range(shape[1]):
            e = i * shape[1] + j
            word = philox4x64((e // 4 + 1, 0, 0, 0), key)[e % 4]
            out[i, j] = (word >> 11) / 2**53 < density
    return out


def cut(matrix, rank):
    U, S, Vh = np.linalg.svd(matrix, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def weighted_sum(stack, weights):
    return sum(w * delta for w, delta in zip(weights, stack, strict=True))


def trimmed(delta, threshold):
    return np.where(np.abs(delta) >= threshold, delta, 0.0)


def threshold(entries, density):
    entries = sorted((abs(x) for x in entries), reverse=True)
    return entries[max(1, floor(density * len(entries))) - 1]


def majority(stacks, weights):
    return np.sign(sum(np.sign(weighted_sum(stack, weights)).sum() for stack in stacks))


def disjoint(stack, weights, tie, normalize):
    out = np.zeros_like(stack[0])
    for place in np.ndindex(out.shape):
        entries = [w * delta[place] for w, delta in zip(weights, stack, strict=True)]
        sign = np.sign(sum(entries)) or tie
        agreeing = [(x, abs(w)) for x, w in zip(entries, weights, strict=True) if x != 0 and np.sign(x) == sign]
        if agreeing:
            shares = [w if normalize == "weights" else 1.0 for _, w in agreeing]
            out[place] = sum(x for x, _ in agreeing) / sum(shares)
    return out


def average(deltas, weights, names, seed):
    return {m: weighted_sum(stack, weights) / sum(weights) for m, stack in deltas.items()}


def task_arithmetic(deltas, weights, names, seed, scale=1.0):
    return {m: scale * weighted_sum(stack, weights) for m, stack in deltas.items()}


def plain_sum(deltas, weights, names, seed):
    return {m: weighted_sum(stack, weights) for m, stack in deltas.items()}


def ties(deltas, weights, names, seed, density=0.2, scope="module", normalize="count", scale=1.0):
    kept = {m: [trimmed(d, threshold(d.flat, density)) for d in stack] for m, stack in deltas.items()}
    if scope == "model":
        whole = [
            threshold(np.concatenate([stack[i].ravel() for stack in deltas.values()]), density) for i in range(len(weights))
        ]
        kept = {m: [trimmed(d, t) for d, t in zip(stack, whole, strict=True)] for m, stack in deltas.items()}
    votes = {m: majority(kept.values() if scope == "model" else [kept[m]], weights) for m in kept}
    return {m: scale * disjoint(stack, weights, votes[m], normalize) for m, stack in kept.items()}


def dropped(deltas, names, seed, density):
    return {
        m: [mask(seed, name, m, d.shape, density) * d / density for name, d in zip(names, stack, strict=True)]
        for m, stack in deltas.items()
    }


def dare_linear(deltas, weights, names, seed, density=0.5, scale=1.0):
    return {m: scale * weighted_sum(stack, weights) for m, stack in dropped(deltas, names, seed, density).items()}


def dare_ties(deltas, weights, names, seed, density=0.5, normalize="count", scale=1.0):
    kept = dropped(deltas, names, seed, density)
    return {m: scale * disjoint(stack, weights, majority([stack], weights), normalize) for m, stack in kept.items()}


def linear_factors(factors, weights):
    """From ``factors[module] = [(s·B, A), …]`` instead of deltas."""
    out = {}
    for module, pairs in factors.items():
        B = sum(w * left for w, (left, _) in zip(weights, pairs, strict=True)) / sum(weights)
        A = sum(w * right for w, (_, right) in zip(weights, pairs, strict=True)) / sum(weights)
        out[module] = B @ A
    return out


ON_DELTAS = {
    "average": average,
    "task_arithmetic": task_arithmetic,
    "cat": plain_sum,
    "svd": plain_sum,
    "ties": ties,
    "dare_linear": dare_linear,
    "dare_ties": dare_ties,
}
