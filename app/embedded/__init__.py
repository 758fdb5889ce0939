"""Valkey and Postgres without Docker: real servers, with their data in one directory.

They listen on loopback, each with a password that is made up once and kept in a file that its
owner alone can read, and a login for each role (:mod:`redfaust.rights`).
"""

from app.embedded.directory import DataDirectory, Services, read_services
from app.embedded.postgres import Postgres, running_postgres, start_postgres
from app.embedded.valkey import Valkey, running_valkey, start_valkey

__all__ = [
    "DataDirectory",
    "Postgres",
    "Services",
    "Valkey",
    "read_services",
    "running_postgres",
    "running_valkey",
    "start_postgres",
    "start_valkey",
]
