"""A real adapter: MiniLM, stored as bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterbank.codecs.coder import decode, encode
from adapterbank.codecs.target import Target
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.peft_format import reader

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "minilm" / "adapters"


@pytest.fixture(scope="module")
def banking() -> Adapter:
    folder = EXAMPLES / "banking"
    return reader.read(
        (folder / "adapter_config.json").read_bytes(), bytearray((folder / "adapter_model.safetensors").read_bytes())
    )


def test_half_the_error_for_less_than_half_a_bit(banking: Adapter):
    coded = encode(banking, Target(max_error=0.5), effort=0)
    assert 8 * len(coded.data) / banking.parameters < 0.5
    assert 0.495 < delta_error(banking, decode(coded.data)).total <= 0.5
