"""More data-free methods once more: dense, by their formulas, in numpy and plain loops; nothing is shared with the package."""

from itertools import permutations
from math import exp, sqrt, tanh

import numpy as np

from tests.merge.references import cut, threshold, weighted_sum


def weighted_mean(deltas, weights, names, seed, **_):
    return {m: weighted_sum(stack, weights) / sum(weights) for m, stack in deltas.items()}


def numerical_rank(matrix):
    return int(np.linalg.matrix_rank(matrix, tol=1e-9)) if matrix.any() else 0


def sub_moe(deltas, weights, names, seed, shared_rank=0, ranks=None):
    out = {}
    for module, stack in deltas.items():
        U = np.linalg.svd(np.concatenate(stack, axis=1))[0][:, : shared_rank or ranks[module]]
        out[module] = U @ U.T @ weighted_sum(stack, weights) / sum(weights)
    return out


def layer_assembly(deltas, weights, names, seed, by="depth"):
    out = {}
    layers = sorted({int(module.split(".")[1]) for module in deltas})
    present = [i for i, weight in enumerate(weights) if weight]
    for module, stack in deltas.items():
        place = layers.index(int(module.split(".")[1]))
        by_depth = present[place * len(present) // len(layers)]
        chosen = int(np.argmax(np.abs(weights))) if by == "weights" else by_depth
        out[module] = weights[chosen] * stack[chosen]
    return out


def norm(deltas):
    return sqrt(sum(float((delta**2).sum()) for delta in deltas.values()))


def opcm(deltas, weights, names, seed, alpha=0.5, k_max=0):
    """As the authors' code with full matrices, but the diagonal of P is zeroed only where M has singular values."""
    merged, lam, norms = None, 1.0, []
    ranks = dict.fromkeys(deltas, 0)
    for i, weight in enumerate(weights):
        new = {module: weight * stack[i] for module, stack in deltas.items()}
        if norm(new) == 0:
            continue
        norms.append(norm(new))
        ranks = {m: k_max or max(ranks[m], numerical_rank(new[m])) for m in ranks}
        total = {}
        for module, tau in new.items():
            M = merged[module] if merged else np.zeros_like(tau)
            U, S, Vh = np.linalg.svd(M)
            rank = numerical_rank(M)
            P = U.T @ tau @ Vh.T
            for k in range(rank):
                P[k, k] = 0.0
            block = int(np.argmax(np.cumsum(S) / S.sum() > alpha)) if rank else 0
            P[:block, :block] = 0.0
            total[module] = cut(lam * M + U @ P @ Vh, ranks[module])
        lam = norm(total) / (sum(norms) / len(norms))
        merged = {module: delta / lam for module, delta in total.items()}
    return merged


def clamped(entries, low, high):
    """Entries between the two quantiles of sorted ``entries``, by the authors' indices."""
    ordered = sorted(entries)
    d = len(ordered)
    return np.clip(entries, ordered[min(int(d * low), d - 1)], ordered[max(int(d * (1 - high) - 1), 0)])


def min_max(entries):
    low, high = min(entries), max(entries)
    return [(x - low) / (high - low) for x in entries] if high > low else [0.0 for _ in entries]


def pcb_flat(taus, weights, ratio, clamp):
    """One flattened vector per adapter."""
    n, d = len(taus), len(taus[0])
    total = [sum(tau[e] for tau in taus) for e in range(d)]
    kept, shares = [], []
    for tau in taus:
        size = clamped(np.abs(tau), clamp, clamp)
        kept.append(np.sign(tau) * size)
        own = min_max(size)
        score = np.array([exp(n * own[e] ** 2) * tanh(tau[e] * total[e]) for e in range(d)])
        floored = np.maximum(score, sorted(score)[min(int(d * (1 - ratio)), d - 1)])
        equal = max(floored) == min(floored)
        shares.append([float(x > 0 and x == max(score)) for x in score] if equal else min_max(floored))
    out = np.zeros(d)
    for e in range(d):
        beta = [share[e] for share in shares]
        out[e] = sum(b * w * tau[e] for b, w, tau in zip(beta, weights, kept, strict=True)) / max(sum(beta), 1e-12)
    return out


def pcb(deltas, weights, names, seed, pcb_ratio=0.1, clamp=1e-4, scope="module"):
    groups = [list(deltas)] if scope == "model" else [[module] for module in deltas]
    out = {}
    for group in groups:
        taus = [np.concatenate([deltas[m][i].ravel() for m in group]) for i in range(len(weights))]
        flat, at = pcb_flat(taus, weights, pcb_ratio, clamp), 0
        for m in group:
            shape = deltas[m][0].shape
            out[m] = flat[at : at + shape[0] * shape[1]].reshape(shape)
            at += shape[0] * shape[1]
    return out


def doge_shared_space(stack, subspace):
    """The projection onto the space shared by the leading left singular vectors; no vectors of a null space."""
    side = min(stack[0].shape)
    tops = [np.linalg.svd(tau)[0][:, : min(side // len(stack), numerical_rank(tau))] for tau in stack]
    U, S, _ = np.linalg.svd(np.concatenate(tops, axis=1), full_matrices=False)
    U = U[:, : min(side // subspace, int((S > 1e-9).sum()))]
    return U @ U.T


def doge_module(stack, weights, steps, eta, lr, subspace):
    """λ_i and the common delta d of one module, by Adam on the loss as it is written."""
    lams = [w * eta / np.linalg.norm(tau) if tau.any() else 0.0 for w, tau in zip(weights, stack, strict=True)]
    P = doge_shared_space(stack, subspace)
    d, first, second = (np.zeros_like(stack[0]) for _ in range(3))
    for step in range(1, steps + 1):
        gradient = np.zeros_like(d)
        for tau in stack:
            rows = (tau * (tau - weighted_sum(stack, lams) - sum(lams) * d)).sum(axis=1)
            gradient += 2 * rows[:, None] * tau * -sum(lams)
        gradient -= P @ gradient
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        d = d - lr * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return lams, d


def doge(deltas, weights, names, seed, K=0.3, eta=0.07, steps=400, lr=1e-4, subspace=6, scope="model"):
    out = {}
    for module, stack in deltas.items():
        lams, d = doge_module(stack, weights, steps, eta, lr, subspace)
        out[module] = np.zeros_like(d)
        for i, tau in enumerate(stack):
            looked = [other[i].ravel() for other in deltas.values()] if scope == "model" else [tau.ravel()]
            mask = np.abs(tau) >= threshold(np.concatenate(looked), K)
            out[module] += lams[i] * mask * (tau + d)
    return out


ON_DELTAS = {
    "metrics_weighted": weighted_mean,
    "greedy_soup": weighted_mean,
    "final_average": weighted_mean,
    "layer_assembly": layer_assembly,
    "opcm": opcm,
    "pcb": pcb,
    "doge": doge,
}
NAMES = {*ON_DELTAS, "sub_moe", "mc_smoe", "pleas_data_free", "sparse_soup"}


# Methods on factors: ``pairs[i] = (s·B, A)`` of one module.


def balanced(pair):
    B, A = (side.copy() for side in pair)
    for k in range(B.shape[1]):
        b, a = np.linalg.norm(B[:, k]), np.linalg.norm(A[k])
        if a * b > 0:
            B[:, k] *= sqrt(a / b)
            A[k] *= sqrt(b / a)
    return B, A


def central(pairs, weights):
    """The medoid by weighted cosines of the dense deltas."""
    dense = [(B @ A).ravel() for B, A in pairs]
    unit = [x / np.linalg.norm(x) if x.any() else x for x in dense]
    sums = [
        sum(abs(w) * float(x @ y) for w, y in zip(weights, unit, strict=True)) if own and x.any() else -np.inf
        for own, x in zip(weights, unit, strict=True)
    ]
    return int(np.argmax(sums))


def matched(pairs, weights):
    """Every adapter in the order and with the signs that fit the medoid's units best, over all permutations."""
    pairs = [balanced(pair) for pair in pairs]
    to_B, to_A = pairs[central(pairs, weights)]
    out = []
    for B, A in pairs:
        gain = (to_B.T @ B) * (to_A @ A.T)
        best = list(max(permutations(range(B.shape[1])), key=lambda p: sum(gain[k, p[k]] for k in range(len(p)))))
        signs = [-1.0 if to_B[:, k] @ B[:, p] + to_A[k] @ A[p] < 0 else 1.0 for k, p in enumerate(best)]
        out.append((B[:, best] * signs, A[best] * np.array(signs)[:, None]))
    return out


def mc_smoe(pairs, weights, low_rank_factor, rows):
    shares = np.array(weights) / sum(weights)
    pairs = matched(pairs, weights)
    W = weighted_sum([B for B, _ in pairs], shares) @ weighted_sum([A for _, A in pairs], shares)
    out = cut(W, low_rank_factor)
    residual = W - out
    for row in sorted(range(len(W)), key=lambda row: -np.linalg.norm(residual[row]))[:rows]:
        out[row] += residual[row]
    return out


def pleas_data_free(pairs, weights, ratio):
    shares = np.array(weights) / sum(weights)
    to = central([balanced(pair) for pair in pairs], weights)
    pairs = matched(pairs, weights)

    def unit(i, k):
        return np.outer(pairs[i][0][:, k], pairs[i][1][k]).ravel()

    def score(k):
        return sum(
            abs(weights[i]) * unit(i, k) @ unit(to, k) / np.linalg.norm(unit(i, k)) / np.linalg.norm(unit(to, k))
            for i in range(len(pairs))
            if i != to
        )

    rank = pairs[0][0].shape[1]
    joined = sorted(range(rank), key=lambda k: -score(k))[: round(ratio * rank)]
    out = np.zeros((len(pairs[0][0]), pairs[0][1].shape[1]))
    for k in range(rank):
        if k in joined:
            B = sum(f * B[:, k] for f, (B, _) in zip(shares, pairs, strict=True))
            A = sum(f * A[k] for f, (_, A) in zip(shares, pairs, strict=True))
            out += np.outer(B, A)
        else:
            out += sum(f * np.outer(B[:, k], A[k]) for f, (B, A) in zip(shares, pairs, strict=True))
    return out
