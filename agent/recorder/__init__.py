"""`recorder`: keeps what every module tells it, sealed, so that nothing acknowledged is lost (LOG).

* `module`     the process: everything below put to work for one plan
* `service`    `RecorderService`: takes events from the modules, commits them in groups, acknowledges
* `packets`    what modules send, checked field by field
* `keeper`     checkpoints, incidents, clock steps, levels of the disk: what the ledger is owed
* `incidents`, `space`, `clocks`   the parts of it that decide
* `log_desk`   what people ask of the log: deletions, holds
* `relay`, `receipts`   the ledger on its way to its witnesses
* `log`        what a log is to the service (`StreamLog`), and one record of it
* `store`      the sealed log put together from the plan
* `sealed`     the writer: segments, ledger, keys, retention
"""
