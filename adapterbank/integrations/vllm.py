"""vLLM asks the bank for adapters that it does not know: a plugin of the group ``vllm.general_plugins``.

``register`` runs in every process of a server, several times: it only adds a resolver. The bank is opened by the first request
for an unknown model, in the process that answers requests. Settings are environment variables (``docs/serving.md``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from adapterbank.errors import StorageError, UsageError
from adapterbank.integrations.directories import Full
from adapterbank.integrations.resolver import Declined, Resolver

NAME = "adapterbank"


def register() -> None:
    """Add the resolver to vLLM's registry, once in a process. Raises nothing that stops a server: what is wrong with the
    settings is logged at the first request."""
    from vllm.lora.resolver import LoRAResolverRegistry

    if NAME not in LoRAResolverRegistry.get_supported_resolvers():
        LoRAResolverRegistry.register_resolver(NAME, _resolver_class()())


def lora_request(ref: str, number: int, *, base_model: str | None = None) -> Any:
    """A ``LoRARequest`` for vLLM's offline ``LLM``, which asks no resolver. ``number`` is its id, from 1, one per adapter.

    Raises AdapterBankError, unlike the resolver: UsageError for what it would decline, StorageError at the cap.
    ``base_model`` is checked if it is given.
    """
    from vllm.lora.request import LoRARequest

    try:
        path = Resolver("vllm").directory(base_model, ref)
    except Declined as reason:
        raise UsageError(f"{ref}: {reason}") from None
    except Full as reason:
        raise StorageError(f"{ref}: {reason}") from None
    return LoRARequest(lora_name=ref, lora_int_id=number, lora_path=str(path))


def _resolver_class() -> type[Any]:
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    class BankResolver(LoRAResolver):  # type: ignore[misc]
        """Answers with the directory of an immutable version; the server sets the id itself."""

        def __init__(self) -> None:
            # vLLM shows what its own loggers say, and nobody else's
            self.resolver = Resolver("vllm", log=logging.getLogger("vllm.adapterbank"))

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
            path = await asyncio.to_thread(self.resolver.resolve, base_model_name, lora_name)
            return None if path is None else LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(path))

    return BankResolver
