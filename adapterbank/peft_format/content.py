"""The content digest: what an adapter is, whatever the order and the layout of its files."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from adapterbank.container import canonical_json
from adapterbank.peft_format.config import LoraConfig
from adapterbank.peft_format.header import Header
from adapterbank.peft_format.inventory import Inventory
from adapterbank.peft_format.scan import Scan


def content_digest(config: LoraConfig, header: Header, inventory: Inventory, scans: Mapping[str, Scan]) -> str:
    """SHA-256 (hex) over the tensors (canonical key, dtype, shape, SHA-256 of the bytes) and the effective configuration.

    It does not depend on the order of tensors or of ``target_modules``, on metadata, wrappers or bookkeeping fields.
    """
    tensors = sorted(
        [inventory.canonical(key), info.dtype, list(info.shape), scans[key].digest] for key, info in header.tensors.items()
    )
    body = {"format": "adapterbank content 1", "config": config.effective(), "tensors": tensors}
    return sha256(canonical_json(body).encode()).hexdigest()
