"""Values of the field: an adapter's factors, the layout of its modules, deltas and gauges. No disk, no database."""
