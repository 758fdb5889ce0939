"""What is going on and what is wrong, gathered from broker and database."""

from app.status.models import Status
from app.status.watch import Watch

__all__ = ["Status", "Watch"]
