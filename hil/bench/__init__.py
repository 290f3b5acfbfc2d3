"""`python -m hil.bench`: reaction times of the real agent beside C programs that do the same work.

Both in one run on one machine, sample by sample in turn, idle and with busy cores; what counts is the ratio
(DESIGN, "Figures to reach"). The parts: `paths` (what is measured), `rig` (everything that runs), `build` and
`program` (the C programs beside this file), `figures` (percentiles), `report` (the table and the JSON).
"""
