"""The safe reader: untrusted checkpoints as plain data, without running anything in them."""

from ltk.convert.reader.checkpoint_file import RawCheckpoint, read_checkpoint

__all__ = ["RawCheckpoint", "read_checkpoint"]
