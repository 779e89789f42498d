"""Reversible Model Merging (arXiv 2510.14163): bases, members, reconstruction, errors. No disk, no database.

``basis`` fits and projects rows, ``collection`` does so for whole adapters in bounded memory, ``survey`` and ``choose`` find
the number of components, ``objects`` is the form on disk, ``reconstruct`` and ``members`` bring adapters back.
"""

from adapterbank.rmm.basis import Fit, fit, most_components, project
from adapterbank.rmm.choose import by_budget, by_energy, by_error
from adapterbank.rmm.collection import fit_collection, project_adapter
from adapterbank.rmm.members import reconstruct_adapter, reconstruct_rows, stored_error
from adapterbank.rmm.objects import Basis, Member, basis_plan, class_components, common_layout, member_plan
from adapterbank.rmm.reconstruct import backend_for, reconstruct
from adapterbank.rmm.survey import Option, Survey, max_components, stored_bytes, survey

__all__ = [
    "Basis",
    "Fit",
    "Member",
    "Option",
    "Survey",
    "backend_for",
    "basis_plan",
    "by_budget",
    "by_energy",
    "by_error",
    "class_components",
    "common_layout",
    "fit",
    "fit_collection",
    "max_components",
    "member_plan",
    "most_components",
    "project",
    "project_adapter",
    "reconstruct",
    "reconstruct_adapter",
    "reconstruct_rows",
    "stored_bytes",
    "stored_error",
    "survey",
]
