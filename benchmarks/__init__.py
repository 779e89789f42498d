"""Benchmarks: figures as ratios against something everybody can measure, stored with the machine and the spread."""
