"""Benchmarks of the operator as a real process against a real API server and a real Vault."""
