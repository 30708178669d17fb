"""What a binding is to have, and what takes its place: the key that its Secret holds, or the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voicekeys.model.digest import UNKNOWN_DIGEST
from voicekeys.model.errors import StoreDown, Terminal, Waiting
from voicekeys.policies import render

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.digest import Digester
    from voicekeys.model.payload import Payload
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.outcome import Draft


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the Secret is to hold.

    Args:
        digest: keyed digest of the data.
        data: the data; None when Vault does not answer and the Secret in place must do.
        version: Vault's version of the key.
        created_time: when that version was made.
        refused: the digest that Vault now has and that is not rolled out, empty for none.
    """

    digest: str
    data: Payload | None
    version: int
    created_time: datetime
    refused: str = ""


class WayBack:
    """Finds what to go back to, or to go on with.

    Args:
        gatherer: reads the version before.
        digester: makes digests.
    """

    def __init__(self, gatherer: Gatherer, digester: Digester) -> None:
        self._gatherer = gatherer
        self._digester = digester

    def known(self, observed: Observed, draft: Draft, *, readable: bool) -> Wanted | None:
        """What the Secret holds, or held before, where the key that it should hold cannot be had.

        Args:
            observed: the binding.
            draft: its status in the making.
            readable: whether the store lets the binding read: a way back needs the key of before.

        Returns:
            None where nobody can tell.
        """
        status, secret, change = draft.status, observed.secret, draft.status.rotation
        if status.secret is None or status.key is None or status.digest_key != self._digester.key_id or secret is None:
            return None
        if secret.stamp != status.secret.digest:
            return None
        draft.baseline = status.secret.digest
        refused = (change.refused_digest if change else None) or ""
        if change is not None and refused == status.secret.digest and readable:
            try:
                return self.previous(observed, change.from_version, refused)
            except (Waiting, Terminal) as fault:
                if fault.reason == "Reading":
                    raise
        refused = "" if refused == status.secret.digest else refused
        return Wanted(status.secret.digest, None, status.key.version, status.key.created_time, refused)

    def previous(self, observed: Observed, version: int, refused: str) -> Wanted:
        """Scenario E: the key of before is read again from Vault, by its version.

        Raises:
            Waiting: it is being read (reason ``Reading``), or Vault does not answer.
            Terminal: it is lost.
        """
        source = self._gatherer.previous(observed, version)
        if source is None or source.pending:
            raise Waiting("Reading", f"reading version {version} of {observed.spec.source.path} to go back to it")
        if source.key is None and isinstance(source.error, StoreDown):
            message = f"version {version} is to be put back as soon as it can be read: {source.error.message}"
            raise Waiting(source.error.reason, message)
        if source.key is None:
            reason = source.error.message if source.error else "it was not read"
            message = (
                f"the new key was refused by its pods, and version {version}, to go back to, cannot be read: {reason}. "
                "Put a working key into Vault"
            )
            raise Terminal("PreviousKeyLost", message)
        data = render.render(observed.spec.target, source.key, observed.spec.source.path)
        digest = self._digester.of_payload(data)
        proven = {one for agent in observed.status.agents for one in (agent.digest, agent.previous_digest)}
        proven -= {None, "", refused}  # what was lost with a workload or a trigger proves nothing against it
        if proven and not self.is_rekeyed(observed) and not {digest, UNKNOWN_DIGEST} & proven:
            message = (
                f"the new key was refused by its pods, and version {version} in Vault is not what they had before "
                "(the key was deleted and made again?). Put a working key into Vault"
            )
            raise Terminal("PreviousKeyLost", message)
        return Wanted(digest, data, version, source.key.created_time, refused)

    def is_rekeyed(self, observed: Observed) -> bool:
        """Whether the digests of the status are of a fingerprint key that was lost."""
        return self._digester.is_foreign(observed.status.digest_key)
