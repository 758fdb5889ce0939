"""The loop, with Python's own settings of its collector of garbage."""

from tests.bench.peers.bare.loops import PACKAGES, WORKS
from tests.bench.peers.contract import serve

if __name__ == "__main__":
    serve(PACKAGES, WORKS)
