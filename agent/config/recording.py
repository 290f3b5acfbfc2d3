"""What `[recorder]` names: who can open the log, and who witnesses its ledger."""

from collections.abc import Iterator
from pathlib import Path

from agent.config.errors import Problem
from agent.config.model import PlanModel


def check_recorder(model: PlanModel) -> Iterator[Problem]:
    """What is known without the files."""
    recorder = model.recorder
    for key, names in (
        ("recipients", recorder.recipients),
        ("witnesses", recorder.witnesses),
        ("compress", recorder.compress),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Problem(f"recorder.{key}", f"{name!r:.80} stands twice")
    if not recorder.recipients:
        yield Problem(
            "recorder.recipients",
            "names nobody, and a log that nobody can open is useless: at least one public key"
            " (guardian keygen KID --recipient makes one)",
        )
    elif recorder.opening == "all" and len(recorder.recipients) < 2:
        yield Problem("recorder.opening", '"all" needs at least two recipients')


def check_recorder_files(model: PlanModel, folder: Path) -> Iterator[Problem]:
    """On the robot: every key must load, recipients' be of the log's suite, and no two be the same."""
    # Only here, so that a module that opens none of these does not load what reads them.
    from agent.recipients import load_recipient
    from agent.tokens import KeyFileError, load_public_jwk

    def recipient(path: Path) -> tuple[str, bytes]:
        loaded, wanted = load_recipient(path), model.recorder.suite
        if loaded.suite != wanted:
            raise KeyFileError(path, f"is for suite {loaded.suite}, and recorder.suite is {wanted}")
        return loaded.kid, loaded.public

    named = model.recorder
    for key, names, load in (
        ("recorder.recipients", named.recipients, recipient),
        ("recorder.witnesses", named.witnesses, load_public_jwk),
    ):
        seen: dict[str | bytes, Path] = {}
        for path in (folder / name for name in dict.fromkeys(names)):
            try:
                kid, public = load(path)
            except KeyFileError as error:
                yield Problem(key, f"{error.path} {error.bound}")
                continue
            for mark, what in ((kid, f"the kid {kid!r}"), (public, "the key")):
                if mark in seen:
                    yield Problem(key, f"{path} has {what} of {seen[mark]}")
            seen |= {kid: path, public: path}
