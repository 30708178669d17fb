"""The arming of pods at their creation, by the admission policy of deploy/, on a real API server."""
