"""``docs/methods.md``, generated from the table: ``python -m adapterbank.merge.document > docs/methods.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from adapterbank.merge.method import LAWS, Method
from adapterbank.merge.methods import METHODS
from adapterbank.merge.options import Option
from adapterbank.merge.streams import kept, stream_key

_HEAD = """\
# Merge methods

Generated from the table in `adapterbank/merge/methods/__init__.py` by
`python -m adapterbank.merge.document > docs/methods.md`.

LoRA adapters of one base model go in, one LoRA adapter comes out, its scaling 1 (α = r). Everything happens in ΔW space:
`ΔW = s·B·A` with `lora_A [r, d_in]`, `lora_B [d_out, r]`, and the scaling `s` (α/r, or α/√r for rsLoRA) applied exactly
once, so adapters may differ in rank, α and patterns, and weights may be negative.

- **Rank.** By default each module gets its largest input rank; `cat` and `linear_factors` keep their own factors. A rank is
  given as a number for all modules, as an `energy` (the least rank that keeps this share of ‖M‖²) or an `error` (the least
  that stays within this relative error), both module by module, or as `exact` (all columns are kept; a dense merge has
  none to keep and is refused). What the cut to rank k lost is the residual, `(Σ ‖M − M_k‖² / Σ ‖M‖²)^½` over all modules.
- **Weights** are per adapter, and by rules per module: a glob or regular expression on the module's name, a number or a
  list of numbers that is spread over the depth. The first rule that fits decides.
- **Absent modules.** A module that an adapter lacks counts as a zero delta of it (`zero`: `average` still divides by the
  sum of all weights, and `ties` with `scope=model` counts its zeros among the entries), or the other adapters of that
  module share its weight (`renormalize`), or the merge is refused (`refuse`).
- **Kinds.** *Linear* and *equivariant* methods work on the factors through the QR core and never build a dense ΔW.
  *Elementwise* methods compare entries, in the coordinates of their option `space`; *dense* ones hold several deltas of a
  module. *Factors* methods join A and B apart and depend on the gauge of the inputs. *Coefficients* and *statistics*
  methods take artefacts made from data.
- **Beside the factors.** Other tensors of the adapters (heads, biases) are carried if all inputs have identical ones, else
  refused by name.

## Spaces

An elementwise rule gives another merge in other coordinates, so `space` is part of the recipe:

| space | what is compared | size | then |
| --- | --- | --- | --- |
| `full` | ΔW_i | d_out × d_in | a dense M, cut to its rank |
| `core` | C_i = Uᵀ·ΔW_i·V, U and V the left singular vectors of the stacked factors | K × K | U·C·Vᵀ |
| `knots` | S·V_iᵀ of [ΔW_1 … ΔW_n] = U·S·[V_1ᵀ … V_nᵀ], values above 1e-5 of the largest | K × d_in | U·X |
| `factors` | s_i·B_i and A_i apart, scaled to one norm, weighted by the root of the weight's size | d × r | B·A |

`core` is Core Space (arXiv 2509.17786) on balanced factors, U_i√S_i and V_i√S_i of each delta; `knots` is arXiv 2410.19735,
through thin factors. K is at most Σ r_i. `full`, `core` and `knots` depend on the deltas alone: for `core` that is what the
balancing is for, which is ours. An adapter of weight 0 has no part in the bases of `core` and `knots`. `factors` has cross
terms and depends on the gauge. With `scope=model` a rule looks at all parts of all modules as one vector.

## Arithmetic

- **Precision.** Factors are widened to float64, and everything on factors and cores is computed in it. Dense entries (tiles
  of `full` and `knots`) are computed in float32 if all factors of the module came in float32 or less, else in float64.
- **Tiles.** ΔW is never whole: rows of all n adapters at a time, some 2 MiB of float32, computed again in every pass. A
  threshold is the exact k-th largest size, by radix selection over the bits: two passes in float32, four in float64. At
  its peak a merge holds one dense module (the merged one), besides tiles, counters and factors.
- **The cut of a dense module** goes through the eigenvectors of its smaller Gram matrix up to a side of 512. Above that it
  is a block Krylov iteration from a fixed start (arXiv 1504.05477), in the precision of the entries with float64 between
  the products; it ends when the singular values can together be off by no more than moves ‖M − M_k‖ by 1/1000, or else
  gives way to the Gram matrix. The residual is measured by subtraction.
- **The cut of a sum** is exact: QR of both stacks of factors and an SVD of their core. Above 256 columns the core comes from
  Cholesky factors of the two Gram matrices, as long as the columns are independent and more than 1e-6 of ‖M‖² is lost.
- **Same bits.** Inputs are summed in order of their digest (a sequential method takes them as given). Work is split into
  pieces that depend on shapes only and shared out to threads whole, each computing in one thread; so neither order, nor
  threads, nor merging the modules in several goes (with `scope=module`) changes a bit in one environment. The sign of each
  left singular vector makes its largest entry positive, and the result is rounded once to the output's dtype.
- **Device.** Merges that need adapters only can be computed on another device; the bits are then that device's.
"""

_MASK = """\
## A DARE mask, step by step

`dare_linear` and `dare_ties` keep entry (i, j) of the ΔW of one adapter in one module however the work is tiled:

1. Text: the seed in decimal, the adapter's content digest (64 hex digits) and the module's name, joined by line feeds (no
   trailing one), in UTF-8. Key: the first 16 bytes of its SHA-256 as two little-endian 64-bit words k₀, k₁.
2. Entries are numbered in row-major order of ΔW `[d_out, d_in]`: `e = i·d_in + j`.
3. Word e of the stream: Philox4x64-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011) with key
   (k₀, k₁) and the 256-bit counter `⌊e/4⌋ + 1` (lowest word first, the others 0) gives four words; take number `e mod 4`.
   In Python: `numpy.random.Philox(key=[k0, k1]).random_raw(e + 1)[e]`.
4. The entry is kept if `(word >> 11) / 2⁵³ < density`, and then divided by `density`; otherwise it is 0.

Worked example: seed {seed}, digest `{digest}`, module `{module}`,
density {density}: k₀ = `{k0:#018x}`, k₁ = `{k1:#018x}`, and entries 0 to {last} of the mask are
`{bits}`.

In another space than `full` the module's name in the text is followed by a line feed and `core`, `knots`, `factors.left`
or `factors.right`, and the entries are those of that space's matrix. The same adapter re-gauged has another content digest
and so other masks.
"""

_ADDING = """\
## Adding a method

One file in `adapterbank/merge/methods/` with a function `(inputs, *, options…)` that yields a `Piece` per module, and a
`METHOD`; one line in the table. Its keyword-only arguments, each `Annotated[type, Hint("help")]` with a default, are its
command line options; this page and the law tests follow from the table. The tests ask for an independent float64 reference
and a case computed by hand. Another package adds methods through the entry point group `adapterbank.merge_methods`
(name → `Method`).
"""


def document(methods: Mapping[str, Method] = METHODS) -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, _overview(methods), _laws(methods), *(_section(method) for method in methods.values()), _mask(), _ADDING]
    return "\n".join(parts)


def _overview(methods: Mapping[str, Method]) -> str:
    rows = ((f"[`{m.name}`](#{m.name})", m.kind, m.summary, f"`{m.formula}`", m.source) for m in methods.values())
    return _table(("method", "kind", "what", "formula", "source"), rows)


def _laws(methods: Mapping[str, Method]) -> str:
    rows = ((f"`{m.name}`", *(_law(m, law) for law in LAWS)) for m in methods.values())
    meaning = "\n".join(f"- *{law}*: {text}" for law, text in LAWS.items())
    return f"## Laws\n\n{meaning}\n\n{_table(('method', *LAWS), rows)}"


def _law(method: Method, law: str) -> str:
    if law not in method.laws:
        return "no"
    return f"at {_settings(method.laws[law])}" if method.laws[law] else "yes"


def _section(method: Method) -> str:
    doc = inspect.cleandoc(method.merge.__doc__ or "")
    options = (
        _table(("option", "expected", "default", "what"), map(_option, method.options)) if method.options else "No options.\n"
    )
    return f"## {method.name}\n\n{method.summary.capitalize()}. Source: {method.source}.\n\n{doc}\n\n{options}"


def _option(option: Option) -> tuple[str, ...]:
    return f"`{option.name}`", option.expected, f"`{option.default}`", option.hint.help


def _mask() -> str:
    seed, digest, module, density, count = 7, "ab" * 32, "encoder.layer.0.attention.self.query", 0.5, 16
    key = stream_key(seed, digest, module)
    bits = " ".join(str(int(bit)) for bit in kept(key, 0, count, density))
    return _MASK.format(
        seed=seed, digest=digest, module=module, density=density, k0=key[0], k1=key[1], last=count - 1, bits=bits
    )


def _settings(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in options.items())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
