"""What inference servers take: the limits that an adapter would meet at request time, found beforehand.

A server gets a canonical directory (``canonical.py``), so scalings, rsLoRA and rank patterns do not matter. What is left are
tensors that a server has no place for, and ranks. Read in vLLM 0.32, SGLang 0.5 and LoRAX.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapterbank.errors import Problem, UsageError
from adapterbank.lora.layout import ModuleShape


@dataclass(frozen=True, slots=True)
class Server:
    """``ranks`` are the values that its largest rank can be set to, empty for any; ``default`` is the one without a flag.

    ``modules`` are the last parts of the names that it can adapt, empty for all that the model has. ``kinds`` are those of
    :class:`~adapterbank.lora.layout.ModuleShape`. ``all`` is for one that takes whatever PEFT saved.
    """

    name: str
    ranks: tuple[int, ...] = ()
    default: int | None = None
    modules: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset({"linear"})
    all: bool = False


_DECODER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj")
_OLDER = (
    "c_attn", "c_proj", "c_fc", "query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h", "fc1", "fc2", "w1", "w2", "w3",
    "wqkv", "wo",
)  # fmt: skip
_ALL = (
    Server("vllm", (1, 8, 16, 32, 64, 128, 256, 320, 512), 16),
    Server("sglang", modules=frozenset({*_DECODER, "embed_tokens", "lm_head"})),
    Server("lorax", (8, 16, 32, 64, 128), modules=frozenset({*_DECODER, *_OLDER, "lm_head"})),
    Server("peft", all=True),
)
SERVERS = {server.name: server for server in _ALL}


def server(name: str) -> Server:
    """The server of this name; UsageError lists those that exist."""
    if name not in SERVERS:
        raise UsageError(f"server {name!r} is not known: expected one of {', '.join(SERVERS)}")
    return SERVERS[name]


def largest_rank(name: str, rank: int) -> int:
    """What the server's largest rank must be set to for adapters of ``rank``. Raises UsageError if none is enough."""
    ranks = server(name).ranks or (rank,)
    found = next((each for each in ranks if each >= rank), None)
    if found is None:
        raise UsageError(
            f"{name} takes adapters up to rank {ranks[-1]}, got {rank}", hint="basis, merge and encode make smaller ones"
        )
    return found


def problems(
    name: str, *, rank: int, modules: Sequence[ModuleShape], carried: Sequence[str], obstacle: str | None
) -> tuple[Problem, ...]:
    """Everything that the server would refuse (``error``) or has to be started for (``note``)."""
    taken = server(name)
    return () if taken.all else tuple(_problems(taken, rank, modules, carried, obstacle))


def _problems(
    taken: Server, rank: int, modules: Sequence[ModuleShape], carried: Sequence[str], obstacle: str | None
) -> Iterator[Problem]:
    who = taken.name
    if obstacle is not None:
        yield Problem("server_kind", f"{who} cannot serve it: {obstacle}")
    for key in carried:
        yield Problem("server_tensor", f"{who} has no place for this tensor, which is no LoRA factor", key)
    for shape in modules:
        last = shape.name.rpartition(".")[2]
        if shape.kind not in taken.kinds:
            yield Problem("server_module", f"{who} takes no factors of kind {shape.kind}", shape.name)
        elif taken.modules and last not in taken.modules:
            yield Problem("server_module", f"{who} adapts {', '.join(sorted(taken.modules))}, not {last}", shape.name)
    if taken.ranks and rank > taken.ranks[-1]:
        yield Problem("server_rank", f"{who} takes adapters up to rank {taken.ranks[-1]}, this one has rank {rank}")
    elif taken.default is not None and rank > taken.default:
        needed = largest_rank(who, rank)
        yield Problem("server_flag", f"{who} must be started with --max-lora-rank {needed}: the rank is {rank}", None, "note")
