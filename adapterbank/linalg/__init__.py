"""Linear algebra on many small or very tall matrices: checked eigenproblems, polar factors, R factors by row blocks."""
