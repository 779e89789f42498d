"""vLLM asks the bank for adapters that it does not know: a plugin of the group ``vllm.general_plugins``.

``register`` runs in every process of a server, several times: it adds a resolver, and locks the server's lease on directories
(``leases.py``). The bank is opened by the first request for an unknown model, in the process that answers requests. Settings
are environment variables (``docs/serving.md``).
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path
from typing import Any

from adapterbank.errors import StorageError, UsageError
from adapterbank.integrations.directories import Full
from adapterbank.integrations.leases import LOG, Lease, shared_name
from adapterbank.integrations.resolver import Declined, Resolver, Settings

NAME = "adapterbank"


def register() -> None:
    """Add the resolver to vLLM's registry, once in a process; nothing if ``ADAPTERBANK`` is not set.

    Raises nothing: that would stop the server. A vLLM without resolvers is a line in the log, and what is wrong with the
    settings another one at the first request.
    """
    if not os.environ.get("ADAPTERBANK", "").strip():
        if NAME in os.environ.get("VLLM_PLUGINS", "").split(","):
            LOG.warning("adapterbank: ADAPTERBANK does not name a bank: no adapter is taken from one")
        return
    for step in (_add_resolver, _join):
        try:
            step()
        except Exception as error:
            LOG.warning("adapterbank: %s: %s", type(error).__name__, error)


def lora_request(ref: str, number: int, *, base_model: str | None = None) -> Any:
    """A ``LoRARequest`` for vLLM's offline ``LLM``, which asks no resolver. ``number`` is its id, from 1, one per adapter.

    Raises AdapterBankError, unlike the resolver: UsageError for what it would decline, StorageError at the cap.
    ``base_model`` is checked if it is given.
    """
    from vllm.lora.request import LoRARequest

    shared_name()  # the engine that LLM starts joins it
    try:
        path = _resolver(Settings.from_environment("vllm")).directory(base_model, ref)
    except Declined as reason:
        raise UsageError(f"{ref}: {reason}") from None
    except Full as reason:
        raise StorageError(f"{ref}: {reason}") from None
    return LoRARequest(lora_name=ref, lora_int_id=number, lora_path=str(path))


@cache
def _resolver(settings: Settings) -> Resolver:
    """One for each bank and cache: it keeps both open, and its lease with them."""
    return Resolver("vllm", settings)


def _add_resolver() -> None:
    from vllm.lora.resolver import LoRAResolverRegistry

    if NAME not in LoRAResolverRegistry.get_supported_resolvers():
        LoRAResolverRegistry.register_resolver(NAME, _resolver_class()())


def _join() -> None:
    _lease(Settings.from_environment("vllm").cache, shared_name()).join()


@cache
def _lease(root: Path, name: str) -> Lease:
    """Kept: it is locked for as long as this process lives."""
    folder = root / "leases"
    folder.mkdir(parents=True, exist_ok=True)
    return Lease(folder, name)


def _resolver_class() -> type[Any]:
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    class BankResolver(LoRAResolver):  # type: ignore[misc]
        """Answers with the directory of an immutable version; the server sets the id itself."""

        def __init__(self) -> None:
            self.resolver = Resolver("vllm", log=LOG)

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
            try:
                path = await asyncio.to_thread(self.resolver.resolve, base_model_name, lora_name)
                return None if path is None else LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(path))
            except Exception as error:  # a request that this vLLM makes otherwise
                self.resolver.decline(lora_name, error)
                return None

    return BankResolver
