"""Does to the processes what the schedule says."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable

from redis.exceptions import RedisError

from redfaust.errors import BrokerError, DatabaseUnavailable
from tests.torture.faults import Fault, Scheduled
from tests.torture.progress import Progress
from tests.torture.strikes import Impossible, Strikes

logger = logging.getLogger(__name__)


class Torturer:
    """Strikes one fault after the other."""

    def __init__(self, strikes: Strikes, progress: Progress) -> None:
        self._strikes = strikes
        self._progress = progress
        self.done: Counter[Fault] = Counter()
        self.impossible: dict[Fault, str] = {}
        """Why a kind of fault cannot be done here."""

    async def run(self, faults: Iterable[Scheduled]) -> None:
        """Do everything, at its time or as soon as what is before is done."""
        clock = asyncio.get_running_loop().time
        started = clock()
        for at, fault in faults:
            await asyncio.sleep(started + at - clock())
            logger.info("%6.1f s: %s", clock() - started, fault.value)
            self._progress.struck()
            try:
                await self._strikes[fault]()
            except Impossible as reason:
                self.impossible[fault] = str(reason)
            except (BrokerError, DatabaseUnavailable, RedisError, OSError) as error:
                logger.warning("%s: %r", fault.value, error)
            else:
                self.done[fault] += 1
            finally:
                self._progress.healed(fault)
