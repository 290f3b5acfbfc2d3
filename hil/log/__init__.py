"""`python -m hil.log`: what the sealed log withstands, what it costs, and half a year of it (LOG).

* `faults`  every fault of one table, then the real writer, reader and recipient's key: what was lost, and
  whether `verify` said the true thing. `matrix` is the table; `damage` files that are damaged, `crashes` and
  `failing` a writer that is killed or refused (`nursery`, `life`, `faulty.c`), `clockwork` clocks
* `bench`   durable records per second beside plain append + fdatasync and SQLite, and the rest of LOG's figures
* `years`   190 days with time compressed, a witness, and one ordered deletion

They share `writer` (the real classes put together), `owner` (keys), `judge` (what became of a log) and `tell`
(tables and progress).
"""
