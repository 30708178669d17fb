"""Voice keys from Vault to running voice agents, without cutting a call."""

__version__ = "0.1.0"
