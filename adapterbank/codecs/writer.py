"""A draft as the bytes of an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterbank import container
from adapterbank.codecs import choices as choices_section
from adapterbank.codecs import form, payload
from adapterbank.codecs.choices import Choice
from adapterbank.codecs.components import Kept
from adapterbank.codecs.draft import Draft
from adapterbank.codecs.prediction import Rows, Subject
from adapterbank.codecs.tables import SILENT
from adapterbank.codecs.trellis import trellis
from adapterbank.lora.layout import ModuleShape


def storable(step: float) -> float:
    """The step nearest to ``step`` whose root is a float32: that is what an object stores."""
    return float(np.float32(sqrt(step))) ** 2


def extras_section(extras: Mapping[str, Tensor]) -> bytes:
    """The tensors that are no LoRA factor, verbatim; nothing where there are none."""
    return form.packed(container.write(extras, {})) if extras else b""


def write(
    drafted: Draft, subjects: Sequence[Subject], shapes: Sequence[ModuleShape], references: tuple[str, ...], extras: bytes
) -> bytes:
    """The object of a draft; ``shapes`` are those of the modules, in the same order."""
    chosen = [_choice(subject, kept) for subject, kept in zip(subjects, drafted.modules, strict=True)]
    matrices = [side for kept in drafted.modules for side in (kept.x, kept.coefficients, kept.y) if side is not None]
    matrices = [side.only(side.classes > SILENT) for side in matrices]
    sizes = np.array([side.k.shape[1] for side in matrices for _ in range(len(side.k))], np.int64)
    k, q, classes = (_flat([getattr(side, name) for side in matrices]) for name in ("k", "q", "classes"))
    written = payload.write(
        k.astype(np.int32, copy=False),
        q.astype(np.uint8, copy=False),
        sizes,
        classes.astype(np.int64, copy=False),
        trellis(drafted.states),
    )
    sections = form.Sections(
        form.about(tuple(shapes), references), choices_section.write(chosen), written.states, written.words, written.raw,
        written.escapes, extras,
    )  # fmt: skip
    return form.write(drafted.states, sqrt(drafted.step), sections)


def _choice(subject: Subject, kept: Kept) -> Choice:
    gains, origins, few = kept.gains.numpy(), _NONE, _NONE
    if subject.known is None:
        return Choice(subject.kind, gains, origins, _NONE, _NONE, _NONE)
    if isinstance(subject.known, Rows):
        few = _NONE if kept.coefficients is None else kept.coefficients.classes.numpy()
        return Choice(subject.kind, gains, origins, _NONE, few, kept.y.classes.numpy())
    origins = kept.index[kept.index < len(subject.known.weights)].numpy()
    gains = gains.copy()
    gains[: len(origins)] -= subject.known.components.gains[origins]
    return Choice(subject.kind, gains, origins, kept.x.classes.numpy(), few, kept.y.classes.numpy())


_NONE: NDArray[np.int64] = np.zeros(0, np.int64)


def _flat(tensors: Sequence[Tensor]) -> NDArray[Any]:
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy() if tensors else _NONE
