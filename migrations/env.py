"""Alembic's environment: the scripts run on the one connection they are given, inside the transaction that is open on it."""

from alembic import context

from adapterbank.catalog.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("adapterbank's migrations run through `adapterbank init` and `adapterbank upgrade`")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
