"""Like ``uvicorn --workers`` or gunicorn: one parent, workers made by fork or spawn, each serving for itself.

Arguments: ``fork`` or ``spawn``; the port; how many. Each worker takes a call and says ``call <pid>``; SIGUSR1 ends it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

from voicekeys import agent
from voicekeys.agent.shared import AGENT


def work(port: int) -> None:
    """One worker: a call, from now until SIGUSR1."""
    AGENT.serve(settings=agent.Settings(port=port, token=os.environ["VOICEKEYS_DRAIN_TOKEN"], settle=0.0, gather=1.0))
    call = agent.call().begin()
    signal.signal(signal.SIGUSR1, lambda *_: call.end())
    print("call", os.getpid(), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    workers = [
        multiprocessing.Process(target=work, args=(int(sys.argv[2]),), daemon=True) for _ in range(int(sys.argv[3]))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
