"""Tests of the Vault client."""
