"""`guardian witness`: keeps what robots' ledgers said, so that none of them can later say something else.

A witness takes entry n + 1 of a robot only if it follows from entry n that it took before (number, hash,
signature by the key that entry n named), writes it down, syncs it, and only then answers with a signed
receipt (agent/logformat/README.md, "Witness"). Whatever does not fit is an alarm, and evidence on the disk.

* `entry`    one line of a ledger, read strictly; whether it follows from the one before
* `store`    the folder: one file of lines and one of alarms per robot; survives kill -9
* `alarms`   how often one robot may raise an alarm
* `record`   the witness itself: what is taken, answered, alarmed; no network, the clock is given
* `service`  the link to the broker, receipts, reconnection
* `show`, `board`, `metrics`  what people and programs see of it
"""
