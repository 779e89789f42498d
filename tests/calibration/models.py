"""Tiny models and adapters on them; everything in float64, so that a finite difference means something."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapterbank.calibration.tasks import Task
from adapterbank.lora.adapter import Adapter, Factors

VOCABULARY, WIDTH, INNER, CLASSES = 11, 6, 8, 4


class Block(nn.Module):
    """Two projections of the same input, their product, and one back."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, INNER)
        self.key = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.down(torch.tanh(self.query(x)) * torch.sigmoid(self.key(x))))


class Tiny(nn.Module):
    """Tokens ``[N, T]`` to logits ``[N, C]``: embedding, dropout, two blocks, mean over tokens, head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDTH, CLASSES)
        self.double()
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / parameter.shape[-1] ** 0.5)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.dropout(self.words(tokens))
        for layer in self.layers:
            x = layer(x)
        counted = torch.ones_like(tokens) if mask is None else mask
        pooled = (x * counted.unsqueeze(-1)).sum(1) / counted.sum(1, keepdim=True)
        return self.head(pooled)


LINEARS = {
    f"layers.{layer}.{name}": shape
    for layer in (0, 1)
    for name, shape in {"query": (INNER, WIDTH), "key": (INNER, WIDTH), "down": (WIDTH, INNER)}.items()
}
SHAPES = {**LINEARS, "words": (WIDTH, VOCABULARY)}


def adapter(
    seed: int, rank: int = 2, scaling: float = 1.0, modules: Sequence[str] = tuple(LINEARS), size: float = 1.0
) -> Adapter:
    draw = torch.Generator().manual_seed(seed)

    def factors(module: str) -> Factors:
        d_out, d_in = SHAPES[module]
        B = torch.randn(d_out, rank, generator=draw, dtype=torch.float64) * size / rank**0.5
        A = torch.randn(rank, d_in, generator=draw, dtype=torch.float64) / d_in**0.5
        return Factors(A=A, B=B, scaling=scaling, kind="embedding" if module == "words" else "linear")

    return Adapter({module: factors(module) for module in modules})


def batch(seed: int, size: int = 5, length: int = 7, *, padded: bool = False, words: slice = slice(0, VOCABULARY)) -> dict:
    """A batch like those of Hugging Face's tokenisers, with labels; ``words`` are the tokens it may hold."""
    draw = torch.Generator().manual_seed(seed)
    start, stop, _ = words.indices(VOCABULARY)
    mask = torch.ones(size, length, dtype=torch.long)
    if padded:
        for row, cut in enumerate(torch.randint(1, length + 1, (size,), generator=draw).tolist()):
            mask[row, cut:] = 0
    return {
        "tokens": torch.randint(start, stop, (size, length), generator=draw),
        "attention_mask": mask,
        "labels": torch.randint(0, CLASSES, (size,), generator=draw),
    }


def task(seed: int, batches: int = 3, **settings) -> Task:
    chosen = [batch(1000 * seed + i, **settings) for i in range(batches)]
    return Task(chosen, lambda model, b: model(b["tokens"], b["attention_mask"]), lambda b: b["labels"])


def weights_added(model: Tiny, adapters: Sequence[Adapter], coefficients: Tensor) -> Tiny:
    """A copy of ``model`` with ``Σ_i c_i ΔW_i`` in its weights: the slow way."""
    copy = Tiny()
    copy.load_state_dict(model.state_dict())
    names = sorted({name for value in adapters for name in value.modules})
    with torch.no_grad():
        for i, value in enumerate(adapters):
            for name, f in value.modules.items():
                delta = coefficients[i, names.index(name)] * f.scaling * (f.B.double() @ f.A.double())
                copy.get_submodule(name).weight.add_(delta.T if f.kind == "embedding" else delta)
    return copy.eval()
