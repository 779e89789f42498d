"""The file comes back, whatever it is; and its object is as small as the entropy of trained weights allows."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapterbank.codecs import exact
from adapterbank.codecs.exact.layout import BLOCK_BYTES
from adapterbank.errors import NotFoundError, UsageError
from tests.codecs.exact import made
from tests.peft_format.features import FEATURES
from tests.peft_format.hostile import cases

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples" / "minilm" / "adapters").glob("*/adapter_model.safetensors"))
KINDS = ("F32", "F16", "BF16", "F64")


def back(file: bytes, reference: bytes | None = None) -> bytes:
    """The object of ``file``, after it was seen to give the file back."""
    data = b"".join(exact.pieces(file, reference))
    known = {} if reference is None else {sha256(reference).hexdigest(): reference}
    assert exact.decode(data, references=known) == file
    info = exact.inspect(data)
    assert (info.size, info.digest) == (len(file), sha256(file).hexdigest())
    return data


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_comes_back_in_two_thirds_of_its_bytes(path: Path):
    file = path.read_bytes()
    assert len(back(file)) <= 0.68 * len(file)


def test_full_precision_comes_back_in_less_than_the_target():
    """N(0, σ²) in float32: the sign and 23 bits of mantissa are noise, the exponent has 2.55 bits of entropy."""
    file = made.adapter("F32", count=60_000)
    assert len(back(file)) <= 0.84 * len(file)


@pytest.mark.parametrize(("dtype", "share"), [("BF16", 0.34), ("F16", 0.44)])
def test_values_of_fewer_bits_are_found_out(dtype: str, share: float):
    """float32 that was float16 or bfloat16 before: the lower bits are zeros."""
    values = made.floats(dtype, made.normal(dtype, 60_000))
    file = made.file({"w": ("F32", [60_000], made.bits("F32", values))})
    assert len(back(file)) <= share * len(file)


@pytest.mark.parametrize("dtype", KINDS)
def test_special_values_keep_their_bits(dtype: str):
    data = made.specials(dtype)
    file = made.file({"w": (dtype, [len(data) // made.WIDTHS[dtype]], data)})
    other = made.file({"w": (dtype, [len(data) // made.WIDTHS[dtype]], data[::-1])})
    assert len(back(file)) < len(back(file, other)) + 200
    back(file, made.file({"w": (dtype, [1], data)}))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_each_special_value_against_each(dtype: str):
    """Differences from −0 to a NaN and between infinities wrap around and come back."""
    width, values = made.WIDTHS[dtype], made.SPECIALS[dtype]
    pairs = [(a, b) for a in values for b in values] * 30
    first, second = (b"".join(pair[side].to_bytes(width, "little") for pair in pairs) for side in (0, 1))
    shape = [len(pairs)]
    data = back(made.file({"w": (dtype, shape, first)}), made.file({"w": (dtype, shape, second)}))
    assert exact.inspect(data).reference is not None


ODD_FILES = {
    "nothing": b"",
    "one byte": b"\x00",
    "seven bytes": b"1234567",
    "a header that is cut": (100).to_bytes(8, "little") + b"{",
    "no tensors": made.file({}),
    "an empty tensor": made.file({"a": ("F32", [0, 4], b""), "b": ("F32", [3], made.normal("F32", 3))}),
    "a tensor without dimensions": made.file({"a": ("F32", [], b"\x00\x00\x80\x3f"), "b": ("BF16", [], b"\x80\x3f")}),
    "integers and flags": made.file(
        {"i": ("I64", [50], bytes(range(200)) * 2), "j": ("I16", [4], b"abcdefgh"), "f": ("BOOL", [5], b"\x01\x00\x01\x00\x01")}
    ),
    "metadata": made.file({"a": ("F16", [90], made.normal("F16", 90))}, metadata={"format": "pt", "ä": "→" * 50}),
    "a padded header": made.file({"a": ("F32", [90], made.normal("F32", 90))}, pad=1237),
    "an odd header": made.file({"a": ("F32", [90], made.normal("F32", 90))}, pad=3),
    "tensors out of order": made.file({"z": ("F32", [90], made.normal("F32", 90)), "a": ("F64", [9], made.normal("F64", 9))}),
    "bytes between tensors": made.file(
        {"a": ("F32", [9], made.normal("F32", 9)), "b": ("F16", [9], made.normal("F16", 9))}, gap=3
    ),
    "two tensors in one place": made.file({"a": ("F32", [9], made.normal("F32", 9))}).replace(b"36]", b"36]") + b"tail",
    "a size that does not fit its dtype": made.file({"a": ("F32", [3], b"1234567")}),
    "an unknown dtype": made.file({"a": ("F8_E4M3", [300], bytes(300))}),
    "a name of a type": made.file({"a": (["F32"], [3], b"1234567")}),  # type: ignore[dict-item]
    "a deep header": (20_008).to_bytes(8, "little") + b'{"a":' * 4000 + b"1" * 8,
    "a list as the header": (4).to_bytes(8, "little") + b"[{}]" + bytes(30),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_come_back(name: str):
    file = ODD_FILES[name]
    back(file)
    back(file, made.adapter())
    back(made.adapter(), file)


@pytest.mark.parametrize("weights", [case[3] for case in cases()], ids=[case[0] for case in cases()])
def test_hostile_files_come_back(weights: bytes):
    """What is never registered must not upset the codec either."""
    if len(weights) < 1 << 20:
        back(weights)


@pytest.mark.parametrize("code", FEATURES)
def test_every_feature_comes_back(code: str):
    for file in FEATURES[code]().values():
        back(file)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([*made.WIDTHS, "?"]), st.integers(0, 3), st.integers(0, 9))
def test_any_bytes_come_back(data: bytes, dtype: str, gap: int, cut: int):
    file = made.file({"w": (dtype, [1], data), "v": ("F32", [1], data[::-1])}, gap=gap)
    file = file[: len(file) - cut]
    back(data)
    back(file)
    other = made.file({"w": (dtype, [1], bytes(len(data))), "v": ("F32", [1], data)})
    if other != file:
        back(file, other)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(["F32", "F16", "BF16"]))
def test_any_bits_come_back_against_any_reference(data: st.DataObject, dtype: str):
    item = st.integers(0, 2 ** (8 * made.WIDTHS[dtype]) - 1)
    pairs = data.draw(st.lists(st.tuples(item, item), min_size=1, max_size=200))
    sides = [b"".join(pair[side].to_bytes(made.WIDTHS[dtype], "little") for pair in pairs) for side in (0, 1)]
    assume(sides[0] != sides[1])
    back(*(made.file({"w": (dtype, [len(pairs)], side)}) for side in sides))


def test_a_large_tensor_is_cut_into_blocks():
    size = BLOCK_BYTES // 4 + 7
    data = exact.inspect(back(made.file({"w": ("F32", [size], made.normal("F32", size))})))
    assert [block.raw for block in data.blocks[1:]] == [BLOCK_BYTES, 28]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_near_copy_costs_its_difference(dtype: str):
    """A change of 1 % leaves one bit in ten or less of what a float32 mantissa had to pay: a third, or more, is saved."""
    first = made.adapter(dtype, count=30_000)
    second = made.adapter(dtype, count=30_000, seed=5, reference=first, step=0.01)
    plain, referring = back(second), back(second, first)
    assert len(referring) < 0.8 * len(plain) and exact.worth(len(plain), len(referring))
    assert exact.encode(second, references={sha256(first).hexdigest(): first}) == referring
    with pytest.raises(NotFoundError, match="reference"):
        exact.decode(referring)


def test_an_unrelated_reference_is_not_taken():
    first, second = made.adapter(seed=1), made.adapter(seed=2)
    chosen = exact.encode(second, references={sha256(first).hexdigest(): first})
    assert chosen == exact.encode(second) and exact.inspect(chosen).reference is None


def test_of_several_references_the_best_is_taken():
    first, second = made.adapter(seed=1), made.adapter(seed=2)
    near = made.adapter(seed=3, reference=second, step=0.01)
    known = {sha256(each).hexdigest(): each for each in (first, second)}
    data = exact.encode(near, references=known)
    assert exact.inspect(data).reference == sha256(second).hexdigest()
    assert exact.decode(data, references=known) == near


def test_tensors_of_another_size_or_dtype_are_no_reference():
    file, count = made.adapter("F32"), 3000
    for other in (made.adapter("F32", count=count + 10), made.adapter("F16", count=2 * count)):
        assert all(block.place is None for block in exact.inspect(back(file, other)).blocks)


def test_a_file_is_no_reference_of_itself():
    with pytest.raises(UsageError, match="itself"):
        back(made.adapter(), made.adapter())


def test_buffers_of_every_kind_are_taken():
    file = made.adapter()
    data = exact.encode(file)
    for kind in (bytearray, memoryview):
        assert exact.encode(kind(file)) == data and exact.decode(kind(data)) == file


def test_the_bytes_do_not_hang_on_threads():
    """One thread, four, several encodings at once, and a process of its own with other settings."""
    file = made.adapter(count=40_000)
    data, found, before = exact.encode(file), [], torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append(exact.encode(file))
    finally:
        torch.set_num_threads(before)
    threads = [threading.Thread(target=lambda: found.append(exact.encode(file))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data] * 6
    code = (
        "import hashlib; from adapterbank.codecs import exact; from tests.codecs.exact import made; "
        "print(hashlib.sha256(exact.encode(made.adapter(count=40_000))).hexdigest())"
    )
    environment = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == sha256(data).hexdigest()


def test_noise_costs_hardly_more_than_itself():
    file = random.Random(4).randbytes(3 * BLOCK_BYTES + 5)
    assert len(back(file)) <= len(file) + 250


def test_repetitions_are_found():
    assert len(back(made.file({"w": ("F32", [50_000], np.tile(np.arange(50, dtype="<f4"), 1000).tobytes())}))) < 5000
