"""Objects of ``container.py`` that check themselves: their metadata hold the SHA-256 of the whole object.

The digest is taken while its own 64 places hold zeros. So it covers names, shapes and metadata as well as the arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from torch import Tensor

from adapterbank import container
from adapterbank.errors import IntegrityError

_BLANK = "0" * 64
_DIGEST = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')


def size(specs: Mapping[str, container.TensorSpec], metadata: Mapping[str, Any]) -> int:
    """The bytes of an object to come."""
    return container.plan(specs.values(), {**metadata, "sha256": _BLANK}).size


def written(named: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The object with ``named`` tensors and ``metadata``, sealed."""
    data = container.write(named, {**metadata, "sha256": _BLANK})
    return data.replace(_BLANK.encode(), sha256(data).hexdigest().encode(), 1)


def opened(buffer: Any, *, check: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a sealed object; IntegrityError if it is none, or (with ``check``) not what was sealed.

    The tensors are views of a writable ``buffer``; a read-only one is copied.
    """
    view = memoryview(buffer).cast("B")
    if check:
        _check(view)
    try:
        metadata, found = container.read(bytearray(view) if view.readonly else view)
        return dict(metadata), found
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, RuntimeError) as reason:
        raise IntegrityError(f"not an adapterbank object: {reason}") from None


def array(found: Mapping[str, Tensor], name: str, dtype: str, dims: int) -> Tensor:
    """The tensor ``name`` if it is of ``dtype`` and has ``dims`` dimensions; IntegrityError otherwise."""
    tensor = found.get(name)
    if tensor is None or str(tensor.dtype) != f"torch.{dtype}" or tensor.ndim != dims:
        got = "nothing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise IntegrityError(f"array {name!r}: got {got}, expected {dtype} of {dims} dimensions")
    return tensor


def _check(view: memoryview) -> None:
    header = bytes(view[: 8 + min(int.from_bytes(view[:8], "little"), len(view))])
    match = _DIGEST.search(header)
    if match is None:
        raise IntegrityError(f"object of {len(view)} bytes has no digest in its header")
    found = sha256(header[: match.start(1)])
    found.update(_BLANK.encode())
    found.update(view[match.end(1) :])
    if found.hexdigest() != match[1].decode():
        raise IntegrityError(f"object says sha256:{match[1].decode()} of itself, and has sha256:{found.hexdigest()}")
