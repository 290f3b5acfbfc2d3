"""`recorder`: keeps what every module tells it, so that nothing acknowledged is lost (DESIGN, principle 9).

* `log`      what a log is, whichever way it is kept (`Log`), and one record of it
* `lines`    the plain log's line: JSON with a checksum of itself
* `plain`    `PlainLog`: JSON lines in segments, until the sealed log (LOG) fills `Log`
* `service`  `RecorderService`: takes events from the modules, commits them in groups, acknowledges
* `verify`   what `warden log verify` finds in a folder
"""
