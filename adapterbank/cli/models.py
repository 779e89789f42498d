"""Base models: what adapters were trained for."""

from __future__ import annotations

import click

from adapterbank.cli.command import command, group
from adapterbank.cli.documents import document
from adapterbank.cli.documents.names import BaseModelDocument, BaseModelsDocument
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.report import names as pictures


@group(
    "model",
    examples=(
        "adapterbank model list",
        "adapterbank model add meta-llama/Llama-3.1-8B",
        "adapterbank model alias meta-llama/Llama-3.1-8B /models/llama-8b",
    ),
)
def model_command() -> None:
    """Add, alias, join and list base models.

    Adapters are joined only if they have the same base model: equal shapes prove nothing.
    """


@command(
    "add",
    examples=("adapterbank model add meta-llama/Llama-3.1-8B", "adapterbank model add my/model --quantization nf4"),
    prints=(BaseModelDocument,),
)
@click.argument("name", metavar="ID")
@click.option("--fingerprint", metavar="TEXT", help="What tells this model from others: a digest of configuration and shapes.")
@click.option("--quantization", metavar="TEXT", help="A note on how the weights are quantized.")
@pass_session
def add_command(session: Session, name: str, fingerprint: str | None, quantization: str | None) -> None:
    """Add a base model by its canonical id."""
    model = session.open().add_base_model(name, fingerprint=fingerprint, quantization=quantization)
    emit(session, document(BaseModelDocument, model), pictures.base_model)


@command(
    "alias",
    examples=(
        "adapterbank model alias meta-llama/Llama-3.1-8B /models/llama-8b",
        "adapterbank model alias meta-llama/Llama-3.1-8B llama-8b",
    ),
    prints=(BaseModelDocument,),
)
@click.argument("name", metavar="ID")
@click.argument("alias", metavar="ALIAS")
@pass_session
def alias_command(session: Session, name: str, alias: str) -> None:
    """Say that another hub id, local path or served name means the same base model."""
    emit(session, document(BaseModelDocument, session.open().alias_base_model(name, alias)), pictures.base_model)


@command(
    "join",
    examples=(
        "adapterbank model join meta-llama/Llama-3.1-8B /models/llama-8b",
        "adapterbank model join org/model model --json",
    ),
    prints=(BaseModelDocument,),
)
@click.argument("name", metavar="ID")
@click.argument("other", metavar="OTHER")
@pass_session
def join_command(session: Session, name: str, other: str) -> None:
    """Say that two base models of the bank are one; what belongs to OTHER goes over to ID."""
    emit(session, document(BaseModelDocument, session.open().join_base_models(name, other)), pictures.base_model)


@command("list", examples=("adapterbank model list", "adapterbank model list --json"), prints=(BaseModelsDocument,))
@pass_session
def list_command(session: Session) -> None:
    """List base models."""
    emit(
        session, document(BaseModelsDocument, {"base_models": session.open(readonly=True).base_models()}), pictures.base_models
    )


for _command in (add_command, alias_command, join_command, list_command):
    model_command.add_command(_command)
