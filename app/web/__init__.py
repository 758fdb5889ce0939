"""The web API, the status page, health and metrics."""
