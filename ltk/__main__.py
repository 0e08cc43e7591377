"""``python -m ltk``, so that ``torchrun -m ltk`` works."""

from ltk.cli import main

if __name__ == "__main__":
    main()
