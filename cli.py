"""Run the command line from a checkout: ``python cli.py --help``."""

from adapterbank.cli.main import main

main()
