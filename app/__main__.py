"""``python -m app``: the same as ``redfaust``.

It has to be readable to any Python 3, so that one that is too old says so in one line. So has
``app/__init__.py``, which Python reads before this.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a clone can be run without being installed
    sys.stderr.write(
        "redfaust needs Python 3.11 or newer, this is %d.%d: run it with another, for example "  # noqa: UP031
        "`make up PYTHON=python3.12`\n" % sys.version_info[:2]
    )
    sys.exit(1)

from app.cli import main

main(prog_name="redfaust")
