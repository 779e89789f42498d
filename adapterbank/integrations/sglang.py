"""A running SGLang is told to load and unload adapters; it has no hook by which it could ask."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from adapterbank.errors import ServerError, UsageError

_SECONDS = 120.0


def load_adapter(url: str, name: str, path: str | Path, *, pinned: bool = False) -> dict[str, Any]:
    """``POST /load_lora_adapter``: SGLang at ``url`` serves the directory ``path`` as ``name``; its answer.

    The directory must stay while the server runs: it is read again after an eviction. Raises ServerError with what the server
    says, UsageError for an address that is none.
    """
    body = {"lora_name": name, "lora_path": str(Path(path).absolute()), "pinned": pinned}
    return _post(url, "/load_lora_adapter", body)


def unload_adapter(url: str, name: str) -> dict[str, Any]:
    """``POST /unload_lora_adapter``; SGLang first answers the requests that use it."""
    return _post(url, "/unload_lora_adapter", {"lora_name": name})


def _post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"address {url!r}: expected one that begins with http:// or https://")
    address = url.rstrip("/") + path
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            said = answer.read()
    except urllib.error.HTTPError as error:
        raise ServerError(f"{address} answered {error.code}: {error.read().decode(errors='replace')[:2000]}") from None
    except (OSError, ValueError) as error:
        raise ServerError(f"{address} cannot be reached: {error}", hint="is the server running?") from None
    try:
        found = json.loads(said or b"{}")
    except ValueError:
        found = {}
    if isinstance(found, dict) and found.get("success") is False:
        raise ServerError(f"{address} refused: {found.get('error_message') or found}")
    return found if isinstance(found, dict) else {}
