"""The sealed log's writer (LOG; the format: agent/logformat/README.md).

* `log`       SealedLog: the streams together, behind `agent.recorder.log.StreamLog`
* `stream`    one stream: rotation, repetition after a failure, giving a segment up
* `opened`    one segment's file while it is written
* `segment`   header, keys, frames, seal: bytes only, no disk
* `packing`   records to the plaintexts of frames
* `recover`   what a crash left, put in order at the next start; `scan` reads a segment without any key,
              `told` what the ledger says
* `marks`     who has sent what, for de-duplication over kill -9
* `ledger`    the signed ledger; `state` its signing keys, `keys` what those are kept under and the recipients
* `ends`      a ledger read back: where it ends, whether the state fits that end, any line again
* `retention` what may be deleted; `catalogue` what the ledger says of it, `holds` what is held
* `orders`    who may order a deletion or a release; `deletion` carries one out
* `memory`    keys kept out of swap and core dumps
* `disk`      every system call that changes the disk; `folder` the log's folder and its lock
* `parts`     what these share

A record counts when its frame is in the file and fdatasync has returned. What was sealed for a place in a
segment is what is written there, however often it has to be tried: no key and nonce serve two plaintexts.
"""
