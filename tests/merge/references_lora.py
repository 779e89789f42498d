"""The methods made for LoRA once more, on dense matrices or on factors, in numpy; nothing is shared with the package."""

import hashlib
from math import ceil, floor, sqrt

import numpy as np

from tests.merge.references import disjoint, majority, mask, philox4x64, threshold, ties, trimmed


def svd(matrix, largest=None):
    """U, S, Vᵀ of the directions that are there."""
    U, S, Vh = np.linalg.svd(matrix, full_matrices=False)
    rank = sum(value > 1e-5 * (largest or S[0]) for value in S)
    return U[:, :rank], S[:rank], Vh[:rank]


def polar(columns):
    """Newton and Schulz's iteration: singular values go to 1, those that are 0 stay."""
    X = columns / np.linalg.norm(columns, 2)
    for _ in range(100):
        X = 1.5 * X - 0.5 * X @ X.T @ X
    return X


def terms(stack, weights):
    """``w·ΔW`` of the adapters that take part."""
    return [w * delta for w, delta in zip(weights, stack, strict=True) if w and delta.any()]


def tsv_of(matrices, size):
    """TSV-Merge of dense matrices."""
    parts = [svd(matrix) for matrix in matrices]
    k = max(1, floor(size / len(parts)))
    U, V = np.hstack([U[:, :k] for U, _, _ in parts]), np.hstack([Vh[:k].T for _, _, Vh in parts])
    return polar(U) @ np.diag(np.concatenate([S[:k] for _, S, _ in parts])) @ polar(V).T


def flat(matrix):
    """Iso-C of one dense matrix."""
    U, S, Vh = svd(matrix)
    return S.mean() * U @ Vh


def tsv_m(deltas, weights, names, seed, scale=1.0):
    return {m: scale * tsv_of(terms(stack, weights), min(stack[0].shape)) for m, stack in deltas.items()}


def iso_c(deltas, weights, names, seed, scale=1.0):
    return {m: scale * flat(sum(terms(stack, weights))) for m, stack in deltas.items()}


def iso_cts(deltas, weights, names, seed, common_space_fraction=0.8, scale=1.0):
    out = {}
    for module, stack in deltas.items():
        parts = terms(stack, weights)
        U, S, Vh = svd(sum(parts))
        q, n = len(S), len(parts)
        common = q - round((q - int(q * common_space_fraction)) / n) * n
        each = (q - common) // n
        projector = U[:, :common] @ U[:, :common].T
        rests = [svd(part - projector @ part, np.linalg.norm(part, 2)) for part in parts]
        chosen = [(U[:, :common], S[:common], Vh[:common]), *((u[:, :each], s[:each], v[:each]) for u, s, v in rests)]
        mean = np.concatenate([s for _, s, _ in chosen]).mean()
        left, right = np.hstack([u for u, _, _ in chosen]), np.hstack([v.T for _, _, v in chosen])
        out[module] = scale * mean * polar(left) @ polar(right).T
    return out


def cart(deltas, weights, names, seed, pruning_rank=0.04, scale=0.1):
    out = {}
    for module, stack in deltas.items():
        mean = sum(w * delta for w, delta in zip(weights, stack, strict=True)) / sum(weights)
        k = ceil(pruning_rank * min(mean.shape))
        out[module] = mean.copy()
        for w, delta in zip(weights, stack, strict=True):
            U, S, Vh = np.linalg.svd(delta - mean, full_matrices=False)
            out[module] += scale * w * (U[:, :k] * S[:k]) @ Vh[:k]
    return out


def left_basis(columns, least):
    U, S, _ = np.linalg.svd(columns, full_matrices=False)
    return U[:, [value > least * S[0] for value in S]]


def knots(deltas, weights, names, seed, density=0.2, scope="model", normalize="count", scale=0.6):
    """``UᵀΔW_i`` are the ``S V_iᵀ``."""
    bases = {
        m: left_basis(np.hstack([d for d, w in zip(stack, weights, strict=True) if w]), 1e-5) for m, stack in deltas.items()
    }
    blocks = {m: [bases[m].T @ delta for delta in stack] for m, stack in deltas.items()}
    merged = ties(blocks, weights, names, seed, density, scope, normalize, scale)
    return {m: bases[m] @ merged[m] for m in deltas}


def core_space(deltas, weights, names, seed, density=0.1, scope="module", normalize="count", scale=1.0):
    """Bases of the U√S and of the V√S of all deltas side by side."""
    bases = {}
    for module, stack in deltas.items():
        parts = [svd(delta) for delta in stack if delta.any()]
        left = left_basis(np.hstack([U * np.sqrt(S) for U, S, _ in parts]), 1e-10)
        right = left_basis(np.hstack([Vh.T * np.sqrt(S) for _, S, Vh in parts]), 1e-10)
        bases[module] = left, right
    cores = {m: [bases[m][0].T @ delta @ bases[m][1] for delta in stack] for m, stack in deltas.items()}
    merged = ties(cores, weights, names, seed, density, scope, normalize, scale)
    return {m: left @ merged[m] @ right.T for m, (left, right) in bases.items()}


def unfolded(tensor, mode):
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def partial_tucker(tensor, rank):
    """HOOI on the first two modes of a dense ``[d_out, d_in, n]`` tensor, by SVDs of its unfoldings."""
    V = np.linalg.svd(unfolded(tensor, 1), full_matrices=False)[0][:, :rank]
    errors, norm = [], (tensor**2).sum()
    for sweep in range(1000):
        U = np.linalg.svd(unfolded(np.einsum("abn,bq->aqn", tensor, V), 0), full_matrices=False)[0][:, :rank]
        V = np.linalg.svd(unfolded(np.einsum("abn,ap->pbn", tensor, U), 1), full_matrices=False)[0][:, :rank]
        core = np.einsum("abn,ap,bq->pqn", tensor, U, V)
        errors.append(sqrt(abs(norm - (core**2).sum()) / norm))
        if sweep > 1 and abs(errors[-1] - errors[-2]) < 1e-6:
            break
    return U, V


def core_ties(cores, density):
    kept = [trimmed(core, threshold(core.flat, density)) for core in cores]
    ones = [1.0] * len(kept)
    return disjoint(kept, ones, majority([kept], ones), "count")


def compress_then_merge(
    deltas, weights, names, seed, rule="ties", lora_rank=0, beta=0.25, scale=0.75, density=0.25, dare_density=0.7
):
    """``lora_rank=0``: the largest rank in the module."""
    out = {}
    for module, stack in deltas.items():
        rank = min(lora_rank or max(len(svd(delta)[1]) for delta in stack), *stack[0].shape)
        taking = [i for i, (w, delta) in enumerate(zip(weights, stack, strict=True)) if w and delta.any()]
        parts = [weights[i] * stack[i] for i in taking]
        norms = [np.linalg.norm(part) for part in parts]
        scaled = [part / norm * (beta * norm + (1 - beta) * np.mean(norms)) for part, norm in zip(parts, norms, strict=True)]
        U, V = partial_tucker(np.stack(scaled, axis=-1), rank)
        cores = [U.T @ part @ V for part in parts]
        if rule == "sum":
            merged = sum(cores)
        elif rule == "ties":
            merged = core_ties(cores, density)
        elif rule == "dare_ties":
            masks = [mask(seed, names[i], module, (U.shape[1], V.shape[1]), dare_density) for i in taking]
            merged = core_ties([m * core / dare_density for m, core in zip(masks, cores, strict=True)], density)
        elif rule == "tsv":
            merged = tsv_of(cores, U.shape[1])
        else:
            merged = flat(sum(cores))
        out[module] = scale * U @ merged @ V.T
    return out


def words(seed, name, module):
    """The numbers in [0, 1) of one stream, in order."""
    digest = hashlib.sha256("\n".join([str(seed), name, module]).encode()).digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    counter = 0
    while True:
        counter += 1
        yield from ((word >> 11) / 2**53 for word in philox4x64((counter, 0, 0, 0), key))


def apart(u, centre):
    """Squared distance up to sign, and the sign that reaches it."""
    plain, turned = ((u - centre) ** 2).sum(), ((u + centre) ** 2).sum()
    return (turned, -1.0) if turned < plain else (plain, 1.0)


def kmeans(units, k, draws, n_init):
    """Lloyd's iteration on explicit vectors from k-means++ starts; the clusters (lists of turned vectors) of the best run."""
    best = None
    for _ in range(n_init):
        centres = [units[int(next(draws) * len(units))]]
        while len(centres) < k:
            mass = np.cumsum([min(apart(u, centre)[0] for centre in centres) for u in units])
            centres.append(units[int(np.searchsorted(mass, mass[-1] * next(draws), side="right"))])
        before = None
        while True:
            found = [min((*apart(u, centre), c) for c, centre in enumerate(centres)) for u in units]
            labels = [(sign, c) for _, sign, c in found]
            if labels == before:
                break
            before = labels
            turned = [[s * u for u, (s, label) in zip(units, labels, strict=True) if label == c] for c in range(k)]
            centres = [np.mean(cluster, axis=0) for cluster in turned]
        inertia = sum(distance for distance, _, _ in found)
        if best is None or inertia < best[0]:
            best = inertia, turned
    return best[1]


def lora_lego(factors, weights, names, seed, lora_rank=0, n_init=10):
    """From ``factors[module] = [(s·B, A), …]``; None for an adapter that lacks the module."""
    out = {}
    for module, pairs in factors.items():
        units = []
        for w, pair in zip(weights, pairs, strict=True):
            if w and pair is not None:
                for b, a in zip(pair[0].T, pair[1], strict=True):
                    ratio = sqrt(np.linalg.norm(a) / np.linalg.norm(w * b))
                    units.append(np.concatenate([w * b * ratio, a / ratio]))
        k = min(lora_rank or max(len(pair[1]) for pair in pairs if pair is not None), len(units))
        d_out = next(pair for pair in pairs if pair is not None)[0].shape[0]
        out[module] = 0.0
        for cluster in kmeans(units, k, words(seed, "lora_lego", module), n_init):
            centre = np.mean(cluster, axis=0)
            centre = centre * np.mean([np.abs(u).max() for u in cluster]) / np.abs(centre).max()
            out[module] = out[module] + sqrt(len(units) / k) * np.outer(centre[:d_out], centre[d_out:])
    return out


def pruned(factor, ratio):
    sizes = np.sort(np.abs(factor), axis=None)
    return np.where(np.abs(factor) >= sizes[max(1, int(factor.size * (1 - ratio))) - 1], factor, 0.0)


def robust_merge(factors, weights, names, seed, mask_ratio=0.2, att_ratio=0.2, fuse_weight=2.0):
    out = {}
    for module, all_pairs in factors.items():
        pairs = [(w * pair[0], pair[1]) for w, pair in zip(weights, all_pairs, strict=True) if w and pair is not None]
        scales = []
        for _, A in pairs:
            kept = pruned(A, mask_ratio)
            own = [np.abs(row).sum() / np.abs(rest).sum() if rest.any() else 0.0 for row, rest in zip(A, kept, strict=True)]
            floor_ = sorted(own)[min(int(len(own) * (1 - att_ratio)), len(own) - 1)]
            scales.append([max(value, floor_) for value in own])
        A = fuse_weight * sum(pruned(A, mask_ratio) for _, A in pairs)
        B = (
            fuse_weight
            * sum(pruned(B, mask_ratio) * s for (B, _), s in zip(pairs, scales, strict=True))
            / np.sum(scales, axis=0)
        )
        out[module] = B @ A
    return out


def pico(lefts):
    """The damped ``B_i`` from dense ``B_i [d_out, r_i]``."""
    U, s, _ = np.linalg.svd(np.hstack(lefts), full_matrices=False)
    damping = [1 / (1 + (len(lefts) - 1) * value) for value in s**2 / (s**2).sum()]
    return [B + U @ (np.diag(damping) - np.eye(len(damping))) @ U.T @ B for B in lefts]


ON_DELTAS = {
    "tsv_m": tsv_m,
    "iso_c": iso_c,
    "iso_cts": iso_cts,
    "cart": cart,
    "compress_then_merge": compress_then_merge,
    "knots": knots,
    "core_space": core_space,
}
ON_FACTORS = {"lora_lego": lora_lego, "robust_merge": robust_merge}
