"""The CRDs on a real API server: every rule refuses what it should, in the words that it should."""
