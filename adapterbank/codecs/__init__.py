"""Bits: entropy-coded, fixed-width and lossless forms of one adapter. Pure: values in, bytes out."""
