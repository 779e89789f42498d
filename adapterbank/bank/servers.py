"""Canonical directories for inference servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapterbank.bank.opened import Opened
from adapterbank.catalog import base_models
from adapterbank.ways import results

if TYPE_CHECKING:
    from adapterbank.ways.launch import Launch
    from adapterbank.ways.materialize import Order, Planned


class Servers(Opened):
    """Versions as directories that vLLM, SGLang, LoRAX and PEFT read alike."""

    def materialize(
        self,
        refs: Sequence[str],
        directory: str | Path,
        *,
        server: str = "peft",
        rank: int | None = None,
        dtype: str | None = None,
        form: str = "auto",
        progress: results.Progress | None = None,
    ) -> list[results.Materialized]:
        """Write each version to ``directory/NAME@N``: one rank (by default each adapter's largest), α = r, the scaling in B.

        What is there already is left as it is. ``server`` names whose limits are checked (``vllm``, ``sglang``, ``lorax``,
        ``peft``); ``form`` is ``auto`` (the exact bytes if they are kept), ``exact`` or ``bounded``. Raises
        IncompatibleError before anything is written, ConflictError where something else lies.
        """
        from adapterbank.ways.materialize import Order, materialize

        order = Order(rank, dtype, form, server)
        plans = [self.plan_directory(version.ref, order) for version in self._found(refs)]
        done = []
        for plan in plans:
            done.append(materialize(self.rooms, plan, Path(directory) / plan.version.ref))
            if progress is not None:
                progress(len(done), len(plans))
        return done

    def plan_directory(self, ref: str, order: Order) -> Planned:
        """What :meth:`write_directory` would write: its key and a bound of its size; no weights are read."""
        from adapterbank.ways import materialize as ways

        return ways.planned(self.rooms, self._found([ref])[0], order)

    def write_directory(self, plan: Planned, directory: str | Path) -> results.Materialized:
        """Write what was planned; where it is already, its bytes are checked and nothing is written."""
        from adapterbank.ways import materialize as ways

        return ways.materialize(self.rooms, plan, Path(directory))

    def launch_flags(self, refs: Sequence[str], *, server: str, slots: int = 8, model: str | None = None) -> Launch:
        """How ``server`` (``vllm``, ``sglang``, ``lorax``) is started to serve these versions, ``slots`` at once.

        ``model`` is the base model as the server is told it: by default its name or alias that is a folder here, else its name.
        """
        from adapterbank.ways import launch as ways

        return ways.launch(self.rooms, self._found(refs), server=server, slots=slots, model=model)

    def is_base_model(self, name: str, other: str) -> bool:
        """Whether both are names or aliases of one base model; a folder's last slash does not count."""
        with self.rooms.catalog.reading() as tx:
            found = [base_models.find(tx, each.rstrip("/") or each) or base_models.find(tx, each) for each in (name, other)]
        return found[0] is not None and found[1] is not None and found[0].id == found[1].id
