"""The loop, with the settings that a worker has for the collector of garbage."""

from redfaust.collector import relax_collector
from tests.bench.peers.bare.loops import PACKAGES, WORKS
from tests.bench.peers.contract import serve

if __name__ == "__main__":
    relax_collector()
    serve(PACKAGES, WORKS)
