"""`hatch run bench drain`: SIP calls and WebSocket streams on real nodes while a key changes, in three ways.

::

    load (a process)                      real nodes                         provider (a process)
    sipp ── SIP ── dispatcher ── SIP ──┐
        └── RTP ── relay ────── RTP ───┼── agent pods ── HTTP, on each turn and reconnect ── which keys are valid
    streams ── WebSocket, 20 ms frames ┘      │ what happens to them (UDP)
        │ one line for each call              ▼
        └──────────────────────────────► the benchmark: puts keys, restarts, revokes, counts
"""
