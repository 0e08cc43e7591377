"""ltk, the long-tail kit: train, repair, evaluate and convert long-tailed image classifiers."""

__version__ = "0.1.0"
