"""``python -m voicekeys.agent.gauge``: serve until SIGTERM.

As a native sidecar the process gets its SIGTERM when the pod's containers have ended (K6): it ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from voicekeys.agent.errors import PortTaken
from voicekeys.agent.gauge.settings import Settings, from_environment
from voicekeys.agent.gauge.sidecar import Sidecar, logger


def main() -> int:
    """Run. Returns the exit code: 1 when the port cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = from_environment(os.environ)
    if settings.wrong is not None:
        logger.error("the settings are wrong, a drain will wait for its deadline or a release: %s", settings.wrong)
    if settings.token is None:
        logger.warning("no VOICEKEYS_DRAIN_TOKEN: everybody who reaches port %d can drain this pod", settings.port)
    try:
        asyncio.run(_serve(settings))
    except (PortTaken, OSError) as error:
        logger.error("port %d cannot be served: %s", settings.port, error)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    sidecar = Sidecar(settings)
    await sidecar.start()
    if settings.source is not None:
        logger.info("port %d serves the drain contract; port %d is read", sidecar.port, settings.source.url.port)
    await ended.wait()
    sidecar.close()


if __name__ == "__main__":
    sys.exit(main())
