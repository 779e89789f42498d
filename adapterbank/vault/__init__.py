"""The bytes of a bank: objects named by their SHA-256, written durably, never changed, verified whenever they are read."""

from adapterbank.vault.mapped import Mapped
from adapterbank.vault.objects import Stored, Vault
from adapterbank.vault.staging import Litter, Staged

__all__ = ["Litter", "Mapped", "Staged", "Stored", "Vault"]
