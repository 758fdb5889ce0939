"""What is going on, gathered from broker and database."""

from app.status.collector import collect
from app.status.models import Status

__all__ = ["Status", "collect"]
