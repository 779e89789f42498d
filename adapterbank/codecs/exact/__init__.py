"""The lossless level: a whole file as coded blocks, and the same bytes back.

    encode(file, references=…) -> bytes     pieces(file, reference) -> Iterator[bytes]     worth(plain, referring) -> bool
    decode(data, references=…) -> bytes     rebuilt(data, references) -> Iterator[bytes]   inspect(data) -> Info

Integer arithmetic on the bits of the values and zstandard, nothing else: exact for −0, subnormals, infinities and the payload
of every NaN, on every machine and with every number of threads. Laid out byte by byte in ``docs/formats.md``.
"""

from adapterbank.codecs.exact.decoder import decode, rebuilt
from adapterbank.codecs.exact.encoder import encode, pieces, worth
from adapterbank.codecs.exact.layout import Info, inspect

__all__ = ["Info", "decode", "encode", "inspect", "pieces", "rebuilt", "worth"]
