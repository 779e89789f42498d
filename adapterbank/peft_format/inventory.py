"""What each tensor of a weights file is: a factor of a module, something carried, or a problem. Names and shapes only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapterbank.errors import Problem
from adapterbank.lora.layout import ModuleShape
from adapterbank.peft_format import names
from adapterbank.peft_format.carried import Carrier
from adapterbank.peft_format.cases import BY_CODE, Case, cases_in
from adapterbank.peft_format.config import LoraConfig
from adapterbank.peft_format.experts import is_expert, rank_of_experts
from adapterbank.peft_format.foreign import by_keys
from adapterbank.peft_format.header import Header, TensorInfo

_FACTORS = {
    "lora_A.weight": ("A", False),
    "lora_B.weight": ("B", False),
    "lora_embedding_A": ("A", True),
    "lora_embedding_B": ("B", True),
}
_FLOATS = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two tensors of one module (of all experts of one parameter): their keys, and how they are to be read.

    ``module`` is the normalised name, ``own`` the name PEFT matched patterns against. ``experts`` is 0 but for stacked
    experts; then A is ``[experts·rank, d_in]``, expert by expert, and B ``[d_out, rank·experts]``, rank by rank.
    """

    module: str
    own: str
    key_A: str
    key_B: str
    kind: str
    rank: int
    d_in: int
    d_out: int
    scaling: float
    kernel: tuple[int, ...] = ()
    experts: int = 0

    def shapes(self) -> tuple[ModuleShape, ...]:
        """The layout's modules: one, or ``<module>[e]`` for each expert."""
        plain = ModuleShape(self.module, self.d_out, self.d_in, self.rank, self.kind, self.kernel)
        if not self.experts:
            return (plain,)
        return tuple(
            ModuleShape(f"{self.module}[{e}]", self.d_out, self.d_in, self.rank, self.kind) for e in range(self.experts)
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every tensor accounted for: pairs, carried tensors (canonical key to key in the file), the cases met, the naming."""

    pairs: tuple[Pair, ...]
    carried: Mapping[str, str]
    cases: tuple[Case, ...]
    naming: names.Naming

    def canonical(self, key: str) -> str:
        """A file's key as PEFT's loader wants it: ``base_model.model.`` and the normalised name."""
        return names.PEFT_PREFIX + self.naming.forward(names.unwrapped(key))


def take(config: LoraConfig, header: Header) -> tuple[Inventory | None, list[Problem]]:
    """The inventory of ``header`` under ``config``, or None with all problems; notes may accompany an inventory."""
    known = by_keys(header.tensors)
    if known is not None:
        return None, [known]
    return _Stocktaking(config, header).result()


class _Stocktaking:
    """One walk over the tensors, in three steps: sort keys into factors and others, pair, and judge the others."""

    def __init__(self, config: LoraConfig, header: Header) -> None:
        self.config, self.header = config, header
        self.problems: list[Problem] = []
        own = {key: names.unwrapped(key) for key in header.tensors}
        self.naming = names.naming({names.split(name)[0] for name in own.values()})
        self.factors: dict[str, dict[str, str]] = {}  # module by its own name → "A"/"B"/"eA"/"eB" → key
        self.others: dict[str, str] = {}  # canonical key → key
        self.carrier = Carrier.of(config)
        for key, name in own.items():
            self._sort(key, name)
        self.cases = {case.code: case for case in cases_in(config.fields)}
        if self.naming is not names.CURRENT or any(not key.startswith(names.PEFT_PREFIX + own[key]) for key in own):
            self.cases["wrapped_names"] = BY_CODE["wrapped_names"]

    def result(self) -> tuple[Inventory | None, list[Problem]]:
        if self.config.too_costly(list(self.factors)):
            problem = Problem(
                "pattern_too_costly", "rank_pattern and alpha_pattern would take too long to match", "rank_pattern"
            )
            return None, [*self.problems, problem]
        pairs = [pair for own, keys in self.factors.items() if (pair := self._pair(own, keys)) is not None]
        if not self.factors:
            self.problems.append(Problem("no_lora", "the weights file holds no lora_A and lora_B"))
        self.problems += self.carrier.judge(self.others, {self.naming.forward(pair.module): pair.kind for pair in pairs})
        self._refused_cases()
        if any(problem.severity == "error" for problem in self.problems):
            return None, self.problems
        met = [*self.cases.values(), *(BY_CODE[code] for code in self.carrier.met if code not in self.cases)]
        order = {code: at for at, code in enumerate(BY_CODE)}
        cases = tuple(sorted(met, key=lambda case: order[case.code]))
        self.problems += [
            Problem(case.code, f"{case.what}: {case.then}", None, "note") for case in cases if case.decision == "carried"
        ]
        pairs.sort(key=lambda pair: pair.module)
        return Inventory(tuple(pairs), dict(sorted(self.others.items())), cases, self.naming), self.problems

    def _sort(self, key: str, name: str) -> None:
        module, part = names.split(name)
        role = _FACTORS.get(part)
        if role is None or self.carrier.takes_factor(module):
            self._once(self.others, names.PEFT_PREFIX + self.naming.forward(name), key)
            return
        self._once(self.factors.setdefault(module, {}), ("e" if role[1] else "") + role[0], key)

    def _once(self, place: dict[str, str], name: str, key: str) -> None:
        if name in place:
            self._wrong("name_collision", f"{key} and {place[name]} are the same tensor once wrappers are taken off", key)
        place[name] = key

    def _wrong(self, code: str, message: str, where: str) -> None:
        self.problems.append(Problem(code, message, where))

    def _pair(self, own: str, keys: Mapping[str, str]) -> Pair | None:
        """The pair of one module, or None and its problems noted."""
        embedding = "eA" in keys or "eB" in keys
        wanted = ("eA", "eB") if embedding else ("A", "B")
        for absent in (role for role in wanted if role not in keys):
            present = next(iter(keys.values()))
            self._wrong(
                "unpaired", f"{own} has {present} but no {'lora_embedding_' if embedding else 'lora_'}{absent[-1]}", present
            )
        if set(keys) - set(wanted):
            self._wrong("mixed_factors", f"{own} has both lora_A and lora_embedding_A factors", own)
        if set(keys) != set(wanted):
            return None
        key_A, key_B = keys[wanted[0]], keys[wanted[1]]
        A, B = self.header.tensors[key_A], self.header.tensors[key_B]
        if not self._types(key_A, A, key_B, B):
            return None
        return self._shaped(own, key_A, A, key_B, B, embedding)

    def _types(self, key_A: str, A: TensorInfo, key_B: str, B: TensorInfo) -> bool:
        for key, info in ((key_A, A), (key_B, B)):
            if info.dtype not in _FLOATS:
                self._wrong("factor_dtype", f"{key} is {info.dtype}, expected one of {', '.join(_FLOATS)}", key)
        if A.dtype != B.dtype:
            self._wrong("pair_dtype", f"{key_A} is {A.dtype}, {key_B} is {B.dtype}", key_B)
        return A.dtype in _FLOATS and A.dtype == B.dtype

    def _shaped(self, own: str, key_A: str, A: TensorInfo, key_B: str, B: TensorInfo, embedding: bool) -> Pair | None:
        if len(A.shape) != len(B.shape) or len(A.shape) not in ((2,) if embedding else (2, 3, 4)):
            self._wrong("factor_shape", f"{own}: A {list(A.shape)} and B {list(B.shape)} are no pair of factors", key_A)
            return None
        module = self.naming.forward(own)
        if is_expert(self.config, own) and not embedding and len(A.shape) == 2:
            return self._experts(module, own, key_A, A, key_B, B)
        rank = self.config.rank_for(own)
        if B.shape[1] != A.shape[0]:
            grouped = len(A.shape) > 2 and A.shape[0] % B.shape[1] == 0
            code = "conv_groups" if grouped else "pair_shape"
            self._wrong(code, f"{own}: A {list(A.shape)} has rank {A.shape[0]}, B {list(B.shape)} has {B.shape[1]}", key_B)
            return None
        if A.shape[0] != rank:
            self._wrong("rank_mismatch", f"{own}: its factors have rank {A.shape[0]}, the configuration says {rank}", key_A)
            return None
        if any(n != 1 for n in B.shape[2:]):
            self._wrong("factor_shape", f"{own}: B {list(B.shape)} must have a window of 1", key_B)
            return None
        kind = "embedding" if embedding else "conv" if len(A.shape) > 2 else "linear"
        if kind != "linear":
            self.cases.setdefault(kind, BY_CODE[kind])
        d_in = 1
        for n in A.shape[1:]:
            d_in *= n
        scaling = self.config.scaling_for(own)
        return Pair(module, own, key_A, key_B, kind, rank, d_in, B.shape[0], scaling, A.shape[2:])

    def _experts(self, module: str, own: str, key_A: str, A: TensorInfo, key_B: str, B: TensorInfo) -> Pair | None:
        """Stacked experts: their number is the rows of A over the rank; see ParamWrapper in peft/tuners/lora/layer.py."""
        found = rank_of_experts(self.config, own)
        if found is None:
            message = (
                f"{own}: rank_pattern or alpha_pattern gives its parameters different values; which is which cannot be told"
            )
            self._wrong("expert_rank_ambiguous", message, key_A)
            return None
        rank, scaling = found
        if A.shape[0] != B.shape[1] or A.shape[0] % rank:
            message = f"{own}: A {list(A.shape)} and B {list(B.shape)} must both hold a multiple of rank {rank}"
            self._wrong("expert_shape", message, key_A)
            return None
        count = A.shape[0] // rank
        return Pair(module, own, key_A, key_B, "expert", rank, A.shape[1], B.shape[0], scaling, experts=count)

    def _refused_cases(self) -> None:
        for case in self.cases.values():
            if case.decision == "refused":
                self._wrong(case.code, f"{case.what}: {case.then}", "adapter_config.json")
