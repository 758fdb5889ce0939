"""What is going on and what is wrong, gathered from broker and database."""

from app.status.collector import Watch
from app.status.models import Status

__all__ = ["Status", "Watch"]
