"""Shared delivery: one agent's events go to whichever of its instances, on any worker, is free."""
