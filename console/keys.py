"""New key pairs: one that signs, and one that opens sealed logs (PROTOCOL 3, "Key files")."""

from dataclasses import dataclass
from pathlib import Path

from agent.tokens import load_public_jwk, public_jwk, write_key_pair


@dataclass(frozen=True, slots=True)
class NewPair:
    """A pair that was written. `advice`: what becomes of its two files."""

    private: Path
    public: Path
    jwk: dict[str, str]
    advice: str


def new_signer(folder: Path, kid: str, *, overwrite: bool) -> NewPair:
    """An Ed25519 pair; KeyFileError when it cannot be written."""
    private, public = write_key_pair(folder, kid, overwrite=overwrite)
    advice = f"私钥勿外传 keep {private} to yourself; give {public} to the department"
    return NewPair(private, public, public_jwk(*load_public_jwk(public)), advice)


def new_recipient(folder: Path, kid: str, suite: int, *, overwrite: bool) -> NewPair:
    """An X25519 pair, or for suite 2 an SM2 pair; KeyFileError, or SuiteError where OpenSSL 3 is missing."""
    # Only here: a stop must not wait for what it does not need.
    from agent.recipients import load_recipient, recipient_jwk, write_recipient_pair

    private, public = write_recipient_pair(folder, kid, suite, overwrite=overwrite)
    advice = (
        f"私钥勿上机器人，请备份 keep {private} off the robot and back it up: nothing else opens the log; "
        f"name {public} in the plan's recorder.recipients"
    )
    return NewPair(private, public, recipient_jwk(load_recipient(public)), advice)
