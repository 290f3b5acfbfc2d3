"""The auditor's side of the sealed log: verify, decrypt, export (README of agent/logformat).

Usable without the agent: `python -m agent.audit`. It shares the format's constants and cryptographic
primitives with the writer, and no other line.
"""

from agent.audit.bundle import ExportReport, export
from agent.audit.decryption import DecryptReport, decrypt
from agent.audit.errors import AuditError, FormatError
from agent.audit.keys import RecipientKey, load_recipient_key
from agent.audit.orders import OrderKeys
from agent.audit.report import Report
from agent.audit.verification import verify

__all__ = [
    "AuditError",
    "DecryptReport",
    "ExportReport",
    "FormatError",
    "OrderKeys",
    "RecipientKey",
    "Report",
    "decrypt",
    "export",
    "load_recipient_key",
    "verify",
]
