"""The loop, with the settings that a worker has for the collector of garbage."""

from redfaust.gc_tuning import tune_gc
from tests.bench.peers.bare.loops import PACKAGES, WORKS
from tests.bench.peers.contract import serve

if __name__ == "__main__":
    tune_gc()
    serve(PACKAGES, WORKS)
