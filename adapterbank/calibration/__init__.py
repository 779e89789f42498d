"""What merges learn from data: statistics of one adapter, coefficients of several. Plain torch models; no disk, no database."""
