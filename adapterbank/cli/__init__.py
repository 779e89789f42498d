"""The command line: one file per noun; a command calls one method of the bank and prints a value."""
