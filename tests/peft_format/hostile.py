"""Hostile weights files and configurations by name, each with the code it must be refused by."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tests.peft_format.build import PREFIX, Q, config, entry, llama, raw, weights

A, B = f"{PREFIX}{Q}.lora_A.weight", f"{PREFIX}{Q}.lora_B.weight"
F = 4  # bytes of a float32


def _header(**changes: Any) -> dict[str, Any]:
    """A good header of one pair (A 4×6 at 0, B 5×4 at 96, 176 bytes in all), with entries replaced."""
    entries = {A: entry("F32", [4, 6], 0), B: entry("F32", [5, 4], 96)}
    return {**entries, **{A if name == "a" else B if name == "b" else name: value for name, value in changes.items()}}


DATA = np.arange(1, 45, dtype="<f4").tobytes()
GOOD = raw(_header(), DATA)


def _named(name: str) -> bytes:
    return raw({name: entry("F32", [4, 6], 0), B: entry("F32", [5, 4], 96)}, DATA)


def _a(**changes: Any) -> bytes:
    return raw(_header(a={**entry("F32", [4, 6], 0), **changes}), DATA)


def _text(text: str, data: bytes = DATA) -> bytes:
    return raw(text.encode(), data)


_A_TEXT = json.dumps(entry("F32", [4, 6], 0))
_B_TEXT = json.dumps(entry("F32", [5, 4], 96))

HEADERS: dict[str, tuple[str, bytes]] = {
    "empty file": ("header_truncated", b""),
    "seven bytes": ("header_truncated", b"\0" * 7),
    "length only": ("header_truncated", (20).to_bytes(8, "little")),
    "header longer than the file": ("header_truncated", raw(_header(), length=10_000)),
    "length of 2^63": ("header_too_large", raw(_header(), length=1 << 63)),
    "length just over the cap": ("header_too_large", raw(_header(), length=25_000_001)),
    "header of length zero": ("header_start", raw(b"")),
    "leading blanks": ("header_start", raw(b"  " + json.dumps(_header()).encode(), DATA)),
    "a list": ("header_start", raw(b"[]")),
    "byte order mark": ("header_start", raw(b"\xef\xbb\xbf" + json.dumps(_header()).encode(), DATA)),
    "not JSON": ("header_json", raw(b"{nope}")),
    "cut JSON": ("header_json", raw(b'{"a": {"dtype"')),
    "not UTF-8": ("header_json", raw(b'{"\xff\xfe": 1}')),
    "two values": ("header_json", raw(b"{}{}")),
    "zero bytes as padding": ("header_json", raw(json.dumps(_header()).encode() + b"\0" * 8, DATA)),
    "NaN in the header": ("header_json_constant", raw(b'{"a": NaN}')),
    "Infinity in the header": ("header_json_constant", raw(b'{"a": -Infinity}')),
    "float overflow": ("header_json_constant", raw(b'{"a": 1e999}')),
    "an integer of 5000 digits": ("header_json", raw(b'{"a": ' + b"9" * 5000 + b"}")),
    "duplicate tensor, the first nonsense": (
        "header_duplicate_key",
        _text(f'{{"{A}": 1, "{A}": {_A_TEXT}, "{B}": {_B_TEXT}}}'),
    ),
    "duplicate metadata": ("header_duplicate_key", _text(f'{{"__metadata__": {{}}, "__metadata__": {{}}, "{A}": {_A_TEXT}}}')),
    "duplicate dtype in an entry": ("header_duplicate_key", _text(f'{{"{A}": {{"dtype": "F32", "dtype": "F16"}}}}')),
    "duplicate through an escape": ("header_duplicate_key", _text('{"a": 1, "\\u0061": 2}')),
    "nesting of 128": ("header_json_depth", raw(b'{"a":' * 128 + b"1" + b"}" * 128)),
    "nesting of 100,000": ("header_json_depth", raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    "metadata is a list": ("metadata_type", raw({"__metadata__": [], **_header()}, DATA)),
    "metadata with a number": ("metadata_type", raw({"__metadata__": {"a": 1}, **_header()}, DATA)),
    "metadata is null": ("metadata_type", raw({"__metadata__": None, **_header()}, DATA)),
    "no tensor": ("no_tensors", raw({})),
    "metadata only": ("no_tensors", raw({"__metadata__": {"format": "pt"}})),
    "path in a name": ("tensor_name", _named("../../etc/x.lora_A.weight")),
    "absolute path": ("tensor_name", _named("/etc/passwd")),
    "NUL in a name": ("tensor_name", _named(f"{A}\0")),
    "newline in a name": ("tensor_name", _named(f"{A}\n")),
    "unicode twin": ("tensor_name", _named("base_model.model.é.lora_A.weight")),
    "decomposed twin": ("tensor_name", _named("base_model.model.é.lora_A.weight")),
    "full-width letters": ("tensor_name", _named("base_model.model.ｑ.lora_A.weight")),
    "lone surrogate": ("tensor_name", _text(f'{{"\\ud800": {_A_TEXT}, "{B}": {_B_TEXT}}}')),
    "empty name": ("tensor_name", _named("")),
    "empty part": ("tensor_name", _named("base_model..lora_A.weight")),
    "blank in a name": ("tensor_name", _named("base model.lora_A.weight")),
    "terminal escape": ("tensor_name", _named("\x1b[2J.lora_A.weight")),
    "name of 100,000 letters": ("tensor_name", _named("a" * 100_000)),
    "entry is null": ("tensor_entry", raw(_header(a=None), DATA)),
    "entry is a list": ("tensor_entry", raw(_header(a=[]), DATA)),
    "entry without a shape": ("tensor_entry", raw(_header(a={"dtype": "F32", "data_offsets": [0, 96]}), DATA)),
    "entry with one key more": ("tensor_entry", _a(device="cuda")),
    "unknown dtype": ("tensor_dtype", _a(dtype="F3")),
    "eight-bit float": ("tensor_dtype", _a(dtype="F8_E4M3", shape=[4, 24])),
    "dtype is a number": ("tensor_dtype", _a(dtype=32)),
    "dtype is a list": ("tensor_dtype", _a(dtype=["F32"])),
    "lower-case dtype": ("tensor_dtype", _a(dtype="f32")),
    "negative dimension": ("negative_dim", _a(shape=[-4, -6])),
    "float dimension": ("shape_type", _a(shape=[4.0, 6])),
    "true as a dimension": ("shape_type", _a(shape=[True, 24])),
    "text as a dimension": ("shape_type", _a(shape=["4", 6])),
    "shape is a number": ("shape_type", _a(shape=24)),
    "five dimensions": ("too_many_dims", _a(shape=[1, 1, 1, 4, 6])),
    "ten thousand dimensions": ("too_many_dims", _a(shape=[1] * 10_000)),
    "dimension of 2^60, empty": ("dim_too_large", _a(shape=[1 << 60, 0], data_offsets=[0, 0])),
    "product that overflows 64 bits": ("dim_too_large", _a(shape=[1 << 32, 1 << 32])),
    "large dimensions, product 2^80": ("size_mismatch", _a(shape=[1 << 20] * 4)),
    "empty tensor": ("empty_tensor", _a(shape=[0, 6], data_offsets=[0, 0])),
    "offsets reversed": ("offsets_order", _a(data_offsets=[96, 0])),
    "negative offset": ("offsets_order", _a(data_offsets=[-96, 0])),
    "float offsets": ("offsets_type", _a(data_offsets=[0.0, 96.0])),
    "three offsets": ("offsets_type", _a(data_offsets=[0, 48, 96])),
    "offsets beyond the file": ("offsets_range", _a(data_offsets=[100_000, 100_096])),
    "offset of 2^64": ("offsets_range", _a(data_offsets=[0, 1 << 64])),
    "shape larger than its bytes": ("size_mismatch", _a(shape=[4, 7])),
    "shape smaller than its bytes": ("size_mismatch", _a(shape=[4, 5])),
    "dtype narrower than its bytes": ("size_mismatch", _a(dtype="F16")),
    "overlap": ("overlap", raw(_header(b=entry("F32", [5, 4], 92)), DATA)),
    "two names for the same bytes": ("overlap", raw(_header(c=entry("F32", [4, 6], 0)), DATA)),
    "hole before the first tensor": ("hole", raw({A: entry("F32", [4, 6], 8)}, DATA[:104])),
    "hole between tensors": ("hole", raw(_header(b=entry("F32", [5, 4], 100)), DATA + b"\0" * F)),
    "trailing bytes": ("trailing_bytes", raw(_header(), DATA + b"PK\x03\x04")),
    "missing bytes": ("offsets_range", raw(_header(), DATA[:-1])),
    "blanks for 2 MB": ("header_bloated", raw(json.dumps(_header()).encode() + b" " * 2_000_000, DATA)),
    "100,000 tensors": ("too_many_tensors", raw({f"t{n}": entry("U8", [1], n) for n in range(100_000)}, b"\0" * 100_000)),
}

CONFIGS: dict[str, tuple[str, bytes]] = {
    "empty configuration": ("config_json", b""),
    "over 64 KiB": ("config_too_large", config(note="x" * 70_000)),
    "configuration is a list": ("config_type", b"[]"),
    "configuration is a text": ("config_type", b'"LORA"'),
    "configuration in UTF-16": ("config_json", '{"peft_type": "LORA"}'.encode("utf-16")),
    "rank twice": ("config_duplicate_key", b'{"peft_type": "LORA", "r": 4, "r": 8}'),
    "alpha NaN": ("config_json_constant", b'{"peft_type": "LORA", "lora_alpha": NaN}'),
    "alpha Infinity": ("config_json_constant", b'{"peft_type": "LORA", "lora_alpha": Infinity}'),
    "alpha 1e400": ("config_json_constant", b'{"peft_type": "LORA", "lora_alpha": 1e400}'),
    "deep configuration": ("config_json_depth", config(eva_config=json.loads('{"a":' * 40 + "1" + "}" * 40))),
    "very deep configuration": ("config_json_depth", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "no peft_type": ("peft_type_missing", b'{"r": 4}'),
    "rank zero": ("config_field", config(r=0)),
    "rank negative": ("config_field", config(r=-4)),
    "rank a float": ("config_field", config(r=4.0)),
    "rank true": ("config_field", config(r=True)),
    "rank a text": ("config_field", config(r="4")),
    "rank of a billion": ("config_field", config(r=10**9)),
    "alpha of 1e30": ("config_field", config(lora_alpha=1e30)),
    "alpha a list": ("config_field", config(lora_alpha=[8])),
    "bias unknown": ("config_field", config(bias="some")),
    "flag as a text": ("config_field", config(use_rslora="false")),
    "targets an object": ("config_field", config(target_modules={"q_proj": 1})),
    "targets of numbers": ("config_field", config(target_modules=[1, 2])),
    "base model an object": ("config_field", config(base_model_name_or_path={"__class__": "os.system"})),
    "rank pattern with a text": ("config_field", config(rank_pattern={"q_proj": "8"})),
    "alpha pattern not an object": ("config_field", config(alpha_pattern=[["q_proj", 8]])),
    "pattern with a quantified group": ("pattern_unsafe", config(rank_pattern={"(a+)+$": 8})),
    "pattern with a look-ahead": ("pattern_unsafe", config(rank_pattern={"(?=a)q_proj": 8})),
    "pattern with a back-reference": ("pattern_unsafe", config(alpha_pattern={r"(q|v)\1_proj": 8})),
    "pattern of 300 letters": ("pattern_unsafe", config(rank_pattern={"a" * 300: 8})),
    "pattern out of balance": ("pattern_unsafe", config(rank_pattern={"(q_proj": 8})),
    "pattern with forty optional letters": ("pattern_too_costly", config(rank_pattern={"a?" * 40 + "a" * 40: 8})),
    "pattern with six stars": ("pattern_too_costly", config(rank_pattern={".*a.*b.*c.*d.*e.*f": 8})),
}

_SMALL = llama()


def cases() -> list[tuple[str, str, bytes, bytes]]:
    """(name, code, configuration, weights) of every hostile case."""
    good = weights(_SMALL)
    return [
        *((name, code, config(), data) for name, (code, data) in HEADERS.items()),
        *((name, code, data, good) for name, (code, data) in CONFIGS.items()),
    ]
