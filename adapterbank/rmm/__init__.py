"""Reversible Model Merging (arXiv 2510.14163): bases, members, reconstruction, errors. No disk, no database.

``basis`` fits and projects rows, ``collection`` does so for whole adapters in bounded memory, ``survey`` and ``choose`` find
the number of components, ``objects`` is the form on disk, ``reconstruct`` and ``members`` bring adapters back.
"""
