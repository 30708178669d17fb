"""The drain contract for an agent that nobody can change: a native sidecar that reads its number of live calls.

::

    python -m voicekeys.agent.gauge         # settings come from the environment, see settings.py

It can wait for the calls, and says how many there are; it cannot keep the agent from taking more. What cannot be read
is unknown, and never zero: a drain goes on waiting. The modules, from the pure to the wiring:

- `number`: bytes to a number of calls, by JSON pointer or Prometheus series;
- `book`: readings to what is known, how long it has been quiet, and what ended;
- `fetch`, `sockets`: the only I/O, the agent's port and the pod's socket tables;
- `settings`, `sidecar`, `__main__`: the server of the contract, and its start.
"""
