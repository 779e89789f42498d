"""Merging: what the methods cost, and what they are worth on tasks."""
