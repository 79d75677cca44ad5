"""Per-tier file and object handling, and the per-stream view of all three."""
