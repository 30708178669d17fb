"""Pods followed to their end: real agents in processes of their own, on addresses of this machine."""
