"""The client of the drain contract, against the project's own library and against pods that mean harm."""
