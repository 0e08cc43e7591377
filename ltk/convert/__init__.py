"""Legacy checkpoints: read without running them, renamed, verified."""
