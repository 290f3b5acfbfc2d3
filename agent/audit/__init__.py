"""The auditor's side of the sealed log: verify, decrypt, export (README of agent/logformat).

Usable without the agent: `python -m agent.audit`. It shares the format's constants and cryptographic
primitives with the writer, and no other line.
"""
