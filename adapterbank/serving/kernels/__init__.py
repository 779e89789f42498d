"""From what is resident to the rows of a buffer: one specification, and faster ways to the same bits."""
