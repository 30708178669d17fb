"""The Kubernetes API: a thin client on aiohttp and orjson, several times cheaper per call than the typed ones.

::

    KubeCluster  what the reconcilers ask for: Secrets, workloads, pods, status, tokens, watches
    EventEmitter Kubernetes Events, aggregated
    Elector      the Lease that lets one replica work
        └── KubeSession   requests, retries, error mapping
                └── Credentials   in-cluster, or kubeconfig through the official package

Import from the modules: ``cluster``, ``session``, ``credentials``, ``watch``, ``lease``, ``events``.
"""
