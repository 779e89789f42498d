"""Pictures for people: pure functions from the documents of ``--json`` to rich renderables."""
