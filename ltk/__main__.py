"""The command ``ltk``, also as ``python -m ltk``, so that ``torchrun -m ltk`` works."""

import sys

from ltk.interrupt import was_interrupted, watch_interrupts


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback while that is being imported, too."""
    try:
        watch_interrupts()
        from ltk.cli import main as run

        run()
    except (KeyboardInterrupt, ImportError) as error:
        if isinstance(error, ImportError) and not was_interrupted():
            raise
        sys.exit(130)


if __name__ == "__main__":
    main()
