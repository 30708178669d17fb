"""Promises 4 and 5 of the design on real parts: no value leaks, and a tenant reads only its own."""
