"""Pure decisions: from one snapshot to a verdict. No clock, no logger, no I/O, nothing asynchronous."""
