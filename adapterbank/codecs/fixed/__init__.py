"""The fixed-width form of an adapter: uniform codes of a few bits, a width for every component and side, no entropy coding.

In the SVD gauge of a module, ΔW = Σ_k s_k·u_k·v_kᵀ, each component that is kept has its entries on either side rounded to odd
multiples of one scale. They lie in bit planes, in words of 32 rows, so that any module, and any rows of it, are found and
unpacked with shifts alone: by a kernel, or by plain torch (``planes``). The bytes: ``docs/formats.md``.
"""

from adapterbank.codecs.fixed.encoder import Encoded, encode
from adapterbank.codecs.fixed.form import FixedForm, decode, read

__all__ = ["Encoded", "FixedForm", "decode", "encode", "read"]
