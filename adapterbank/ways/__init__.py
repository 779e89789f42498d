"""The straight ways through the house: each file is one job, from its arguments to its result, across the rooms.

Only these functions and the façade know more than one room. A way takes :class:`~adapterbank.ways.rooms.Rooms` first
and returns a value of :mod:`adapterbank.ways.results`.
"""
