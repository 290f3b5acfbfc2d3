"""The monitoring module (监测模块): asks the others for their counts, adds the host's, serves Prometheus.

Nothing needs it for a stop (DESIGN, "Processes"). It asks with `{"type": "metrics"}` over the module links,
at most four times a second however often it is scraped, and takes nothing else from them; what a module says
of another one, or says wrongly, is dropped and counted.

* `errors`   MonitorError
* `tables`   what the modules answered, checked and merged
* `host`     processor, memory, disks, clock
* `links`    one connection per module
* `access`   TLS and basic authentication
* `web`      the HTTP side: two pages, bounded in size, time and number
* `service`  Monitor, which joins them
"""

from agent.metrics import Presets
from agent.monitor.access import BasicAuth, Tls, hash_password
from agent.monitor.errors import MonitorError
from agent.monitor.service import Monitor

__all__ = ["BasicAuth", "Monitor", "MonitorError", "Presets", "Tls", "hash_password"]
