"""Merging: LoRA adapters in, one LoRA adapter out, in ΔW space. No disk, no database.

``engine`` runs a method of the table in ``methods``; ``inputs`` and ``core`` keep what is linear in thin factors,
``elementwise`` streams what is not in row tiles; ``recipe`` is the record from which a merge can be repeated.
"""

from adapterbank.merge.engine import Merged, merge
from adapterbank.merge.method import Method
from adapterbank.merge.methods import METHODS
from adapterbank.merge.recipe import Recipe
from adapterbank.merge.registry import all_methods, find

__all__ = ["METHODS", "Merged", "Method", "Recipe", "all_methods", "find", "merge"]
