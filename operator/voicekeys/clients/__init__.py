"""The only place that talks to the outside: Vault, the Kubernetes API. Foreign errors end here."""
