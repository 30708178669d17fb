"""Plain values that every layer shares: payloads that cannot leak, observed snapshots, typed errors."""
