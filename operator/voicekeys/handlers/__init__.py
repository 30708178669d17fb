"""The edge: kopf's events and HTTP requests come in, keys of work go out."""
