"""Policies: decided by table."""
