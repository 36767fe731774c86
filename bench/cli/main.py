"""`bench COMMAND`: exit code 0 when all is well, 1 when a trial failed, 2 for wrong usage, 130 after Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bench.cli.parser import make_parser
from bench.errors import BenchError

OUTPUT_GONE = 1
INTERRUPTED = 130


def entry_point() -> None:
    """Run the command and exit with its code."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parsed = make_parser().parse_args(arguments)
    try:
        code = int(parsed.command(parsed))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it flushes
        return OUTPUT_GONE
    except BenchError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on with what has not ended", file=sys.stderr)
        return INTERRUPTED
    return code
