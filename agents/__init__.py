"""The shop's stream processing: one module per stream."""
