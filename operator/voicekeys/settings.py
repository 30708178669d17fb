"""The operator's own settings, from the environment; each field's description is the options table's row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Read from ``VOICEKEYS_*``; a wrong value ends the start with a message that names it."""

    model_config = SettingsConfigDict(env_prefix="VOICEKEYS_", extra="ignore", frozen=True)

    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Namespaces to watch, separated by commas; empty watches all of them (needs ClusterRoles).",
    )
    stores_dir: Path | None = Field(
        default=None,
        description="Folder of VoiceKeyStore manifests (*.yaml) to use instead of the cluster's: the namespaced mode.",
    )
    pod_name: str = Field(default="", description="The operator's own pod, from the downward API.")
    pod_uid: str = Field(
        default="",
        description="The pod's UID, from the downward API: with it a leader whose container was restarted leads again "
        "at once, instead of waiting for its own Lease to expire.",
    )
    pod_namespace: str = Field(
        default="", description="The operator's own namespace; default: that of its credentials."
    )
    lease_name: str = Field(default="voicekeys-operator", description="The Lease that decides who leads.")
    leader_election: bool = Field(default=True, description="Off only for a single process on a person's machine.")
    http_host: str = Field(default="", description="Address of probes, metrics and /notify; empty listens on all.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="Their port; 0 takes a free one and logs it.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(default="json", description="For machines, or for a terminal.")
    log_libraries: bool = Field(
        default=False, description="Let kopf and other libraries log below INFO; they print whole objects, redacted."
    )
    kubeconfig: str | None = Field(default=None, description="Kubeconfig to use instead of the pod's own account.")
    kube_context: str | None = Field(default=None, description="Context of the kubeconfig.")
    sweep_seconds: float = Field(
        default=600, gt=0, description="Seconds between two full lists of bindings, against gaps of the watch."
    )
    silent_seconds: float = Field(
        default=300,
        gt=0,
        description="Seconds without a sign of life after which a watch counts as dead and `/healthz` answers 503; "
        "the API server sends a bookmark about once a minute.",
    )
    gauge_image: str = Field(
        default="",
        description="Image of the sidecar that pods of drain mode Gauge get; default: that of the operator's own pod.",
    )
    max_workloads: int = Field(
        default=100,
        ge=0,
        description="Workloads that may be in a restart at once, until their last old pod has ended; 0: any number.",
    )

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
