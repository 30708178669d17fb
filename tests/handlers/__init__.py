"""The edge: events and requests come in, keys of work go out."""
