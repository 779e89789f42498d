"""Objects that were written once and are read for ever. ``python -m tests.codecs.exact.test_golden`` made them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from adapterbank.codecs import exact
from tests.codecs.exact import made, reader

FOLDER = Path(__file__).parent / "golden"
# The SHA-256 of each file, and of the reference that it needs: the factors are in the objects, not made anew.
FILES: dict[str, tuple[str, str | None]] = {
    "f32-1": ("a8ec992cac8d3af1ae42c489de3d18feae0ff6f447ab01541bbdec6552d0e9dc", None),
    "f32-2": ("bbb230c51e921729c0c878e9a13840c1af84160e16cefaf01ec8755af951a3aa", "f32-1"),
    "f16-1": ("c56fa7036350e2159c548da724e7295a8622b75ab6c374666842a8d895de4961", None),
    "f16-2": ("821c694ba65c2cd80daa4a8a32e85174b7dca044121c36fd602180f1e798a2d1", "f16-1"),
    "bf16-1": ("d363430ffd1e8b4e52430cfd17c7e16ed745d96d3a22860f364e38f5cef5c2a0", None),
    "bf16-2": ("54a7b11ae752a5969a622ea095830f02c35c492361507cc4a39754b6a8ccd6c3", "bf16-1"),
    "specials": ("c498986140c39431824b1765af7f7848c790426807e115dcc682d37a3a030784", None),
    "bytes": ("8e4d95394bd180f980d2317b6dd22b6652d7118b6d8514d7a4d15387894724ae", None),
}


def originals() -> dict[str, bytes]:
    """What was coded."""
    found = {}
    for dtype in ("F32", "F16", "BF16"):
        found[f"{dtype.lower()}-1"] = made.adapter(dtype, count=300, seed=1)
        found[f"{dtype.lower()}-2"] = made.adapter(dtype, count=300, seed=2, reference=found[f"{dtype.lower()}-1"], step=0.02)
    kinds = {dtype: (dtype, [400 + len(made.SPECIALS[dtype])], made.specials(dtype, 400)) for dtype in made.SPECIALS}
    counts = np.random.default_rng(1).integers(0, 1000, 400).astype("<i4").tobytes()
    found["specials"] = made.file({**kinds, "I32": ("I32", [400], counts), "U8": ("U8", [], b"\x07")}, pad=5, gap=1)
    found["bytes"] = b"no header at all, " * 20
    return found


def read(name: str) -> bytes:
    """The file of a golden object, with its reference from another one."""
    reference = FILES[name][1]
    known = {} if reference is None else {FILES[reference][0]: read(reference)}
    return exact.decode((FOLDER / f"{name}.exact").read_bytes(), references=known)


@pytest.mark.parametrize("name", FILES)
def test_it_decodes_to_what_it_was_made_of(name: str):
    assert sha256(read(name)).hexdigest() == FILES[name][0]


@pytest.mark.parametrize("name", FILES)
def test_the_document_alone_is_enough(name: str):
    reference = FILES[name][1]
    known = None if reference is None else read(reference)
    assert reader.read((FOLDER / f"{name}.exact").read_bytes(), known) == read(name)


def test_the_codings_are_all_there():
    blocks = [block for path in FOLDER.glob("*.exact") for block in exact.inspect(path.read_bytes()).blocks]
    assert {(block.coding, block.place is not None) for block in blocks} >= {
        ("bytes", False), ("planes", False), ("split", False), ("classes", True), ("planes", True),
    }  # fmt: skip


if __name__ == "__main__":
    for name, file in originals().items():
        needed = name.replace("-2", "-1") if name.endswith("-2") else None
        pieces = exact.pieces(file, None if needed is None else originals()[needed])
        (FOLDER / f"{name}.exact").write_bytes(b"".join(pieces))
        print(f'    "{name}": ("{sha256(file).hexdigest()}", {needed and repr(needed)}),')
