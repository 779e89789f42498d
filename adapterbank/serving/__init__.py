"""Serving: what is resident for many adapters, and any of them written into one flat buffer in one launch."""
