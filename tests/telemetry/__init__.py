"""Logs that do not leak, metrics that do not linger."""
