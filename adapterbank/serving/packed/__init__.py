"""What is resident of an adapter: contiguous tensors on one device, in the order of the buffer that they are written into.

``rmm`` keeps a basis and each member's coefficients, ``fixed`` the fixed-width codes, ``raw`` the factors themselves.
"""
