"""The parts of ``python -m benchmarks.fidelity``: collections, measures, curves, the bound, the targets, tables and plots."""
