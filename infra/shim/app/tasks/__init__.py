"""The tasks, declared."""
