"""`python -m hil.log`: what the sealed log withstands, what it costs, and half a year of it (LOG).

* `faults`  every fault of one table (`matrix`), then the real writer, reader and recipient's key: what was
  lost, and whether `verify` said the true thing. `bits`, `tails` and `damage` are files that are damaged or
  exchanged (`specimen`); `crashes` and `failing` a writer that is killed or refused (`nursery`, `life`,
  `faulty.c`), `deletions` one that deletes by order (`expired`, `deleter`), judged by `remains`; `clockwork`
  clocks; `trial` is what every try has in common
* `bench`   durable records per second beside plain append + fdatasync and SQLite, and the rest of LOG's
  figures: `contenders`, `measures`, `reading`
* `years`   190 days with time compressed, a witness, and one ordered deletion: `robot`, `verdict`

They share `writer` (the real classes put together), `owner` and `office` (keys), `mix` (records), `judge`
(what became of a log) and `tell` (tables and progress).
"""
