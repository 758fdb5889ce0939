"""Stores of partitioned logs: what one is, and those that there are."""
