"""Objects written once are read for ever, to the same bits."""

from __future__ import annotations

import json

import numpy as np
import torch

from adapterbank import container
from adapterbank.codecs import fixed
from adapterbank.codecs.fixed import planes, sealed
from adapterbank.lora.delta import delta_error

from . import reference
from .make_golden import GOLDEN, digests, original

DATA = (GOLDEN / "adapter-1.safetensors").read_bytes()


def test_the_golden_object_decodes_to_its_digests() -> None:
    found = fixed.decode(DATA)
    assert digests(found) == json.loads((GOLDEN / "expected-1.json").read_text())
    assert found.extras["classifier.bias"].numpy().tobytes() == original().extras["classifier.bias"].numpy().tobytes()
    assert 0.2 < delta_error(original(), found).total <= 0.25


def test_the_golden_object_by_its_description() -> None:
    found = fixed.decode(DATA)
    for name, A, B in reference.modules(DATA):
        assert np.array_equal(found.modules[name].A.numpy(), A)
        assert np.array_equal(found.modules[name].B.numpy(), B)


def test_planes_and_seal_are_written_as_they_were() -> None:
    form = fixed.read(bytearray(DATA))
    words = []
    for index in range(len(form.shapes)):
        live = form.places.components(index)
        for side in (0, 1):
            own, widths = reference.by_places(form, side, index), form.widths[side, live]
            odd = torch.from_numpy(own).T / form.scales[side, live].float().unsqueeze(1)
            words.append(planes.pack(((odd + (1 << widths.int()).unsqueeze(1) - 1) / 2).to(torch.uint8), widths).flatten())
    _, arrays = container.read(bytearray(DATA))
    arrays["words"] = torch.cat(words)
    assert sealed.written(arrays, {"kind": "fixed", "format": 1}) == DATA
