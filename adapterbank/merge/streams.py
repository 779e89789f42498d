"""Counter-based random streams: entry e of a mask depends on its key and on e alone, so any tile can be drawn by itself.

Philox4x64-10 (Salmon et al., SC 2011), as NumPy has it; ``docs/methods.md`` spells a mask out step by step.
"""

from __future__ import annotations

import hashlib
from math import ceil

import numpy as np
import torch
from torch import Tensor

_LANES = 4  # 64-bit words that one value of the counter gives


def stream_key(seed: int, adapter: str, module: str) -> tuple[int, int]:
    """The two 64-bit words of the key: the first 16 bytes, little-endian, of SHA-256 over three lines of UTF-8 text."""
    digest = hashlib.sha256(f"{seed}\n{adapter}\n{module}".encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def kept(key: tuple[int, int], start: int, count: int, density: float) -> Tensor:
    """Entries ``start … start + count - 1`` of the mask of ``key``, bool ``[count]``: True with probability ``density``.

    Entry e is kept if the upper 53 bits of word e of the stream, read as a fraction of 2⁵³, are less than ``density``.
    """
    skip = start % _LANES
    philox = np.random.Philox(key=np.array(key, dtype=np.uint64))
    words = philox.advance(start // _LANES).random_raw(skip + count)[skip:]
    last = (ceil(density * 2.0**53) << 11) - 1  # the largest word whose upper 53 bits are less
    return torch.from_numpy(words <= np.uint64(last))
