"""What switching an adapter costs, by form, beside PEFT, files and copies; see ``docs/benchmarks.md``."""
