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

- **Rank.** By default each module gets its largest input rank; an explicit rank holds for all. `cat` and `linear_factors`
  keep their own factors unless a rank is given. What the cut to rank k lost is the residual,
  `(Σ ‖M − M_k‖² / Σ ‖M‖²)^½` over all modules.
- **Absent modules.** A module that an adapter lacks counts as a zero delta of it: `average` still divides by the sum of
  all weights, and `ties` with `scope=model` counts its zeros among the entries.
- **Linear** methods work on the factors through the QR core and never build a dense ΔW. **Elementwise** methods go through
  ΔW in row tiles, one module at a time, in float64. **Factors** methods join A and B apart and depend on the gauge of the
  inputs.
- **Beside the factors.** Other tensors of the adapters (heads, biases) are carried if all inputs have identical ones, else
  refused by name.
- **Same bits.** Inputs are summed in order of their digest, factorisations run in one thread and in float64, the sign of
  each left singular vector makes its largest entry positive, and the result is rounded once to the output's dtype.
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

The same adapter re-gauged has another content digest and so other masks.
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
