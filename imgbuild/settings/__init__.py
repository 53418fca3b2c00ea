"""The settings file (YAML) as values. pyyaml's only room; safe loading only. `tree` reads build files, which are YAML too, for the room
`bake`, and knows nothing of what they mean. `load.load_settings` reads the settings file, whose keys are:

    registries:                     # by the name that references use
      docker.io:
        mirrors: ["http://mirror.internal:5000"]   # asked in this order before the registry, by pulls only
      registry.internal:5000:
        plain-http: true            # speak HTTP; default: only to this machine
        insecure: true              # speak HTTPS, and believe any certificate
        ca: certs/internal.pem      # certificates to believe; relative to this file
    network:
      ca: certs/company.pem         # for all registries that have no own
      attempts: 5                   # of each request, the first one included
      connect-timeout: 10s
      read-timeout: 60s
      longest-wait: 2m              # the most that a registry's Retry-After may ask for
      parallel: 4                   # blobs at once
      chunk-size: 16m               # upload in pieces of this size; default: in one
    compression: zstd               # of layers: zstd, gzip or none
    compression-level: 3
    parallelism: 8                  # steps at once; default: the number of processors
    memory: 8g                      # of steps at once, by what they held before; default: what is available
    limits:                         # of every RUN that names none of its own
      memory: 4g
      memory-swap: 6g               # memory and swap together; or unlimited
      cpus: 2
      pids: 4096
      timeout: 30m
      idle-timeout: 5m
      retry: 0
    build-timeout: 2h               # of a whole build
    cache:
      unused: 336h                  # `prune` drops steps that were not used for so long
      failed: 72h                   # failed steps are kept for so long
      failed-steps: 5               # so many of them; 0: none
      failed-size: 2g               # and no more of it all together
    history:                        # what is kept of builds (`imgbuild builds`)
      age: 720h                     # for how long, and longer while a step of it is in the cache
      size: 1g                      # of all records and logs together
      log: 64m                      # of the log of one step
    silence: 30s                    # after which it is said what a step that writes nothing waits for
"""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING
from imgbuild.values import dataclass

if TYPE_CHECKING:  # a command that is not told anything loads none of these rooms for it
    from imgbuild.graph.ops import Limits
    from imgbuild.layer.compression import Compression
    from imgbuild.registry.endpoints import RegistrySettings

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a settings file can say. None: it does not say, and the default of whoever asks holds. Times in seconds."""

    registries: RegistrySettings | None = None
    compression: Compression | None = None
    parallelism: int | None = None
    limits: Limits | None = None
    build_timeout: float | None = None
    keep_unused: float = 336 * HOUR
    keep_failed: float = 72 * HOUR
    history_age: float = 720 * HOUR
    history_size: int = 1 << 30
    history_log: int = 64 << 20
    keep_failed_steps: int = 5
    keep_failed_size: int = 2 << 30
    silence: float = 30.0
    memory: int | None = None
