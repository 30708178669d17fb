"""The agent of the drain benchmark: it runs in pods, with Python's library, `voicekeys.agent` and `websockets`."""
