"""`guardian` as a person runs it: exit codes, lines, and no traceback, ever (PROTOCOL 7)."""

import io
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from console.cli import _watch
from console.errors import DONE, FAILED, NO_ANSWER, REFUSED
from console.session import Session
from console.show import ShowText
from console.told import EventSeen, Problem, StateSeen, Update
from tests.console.robots import CHALLENGE, Site, cause, ends, stages
from tests.console.running import ended, guardian, program, running
from tests.console.test_show import event, state
from tests.ports import deaf_port
from tests.waiting import wait_until


async def test_stop_prints_each_stage_with_its_milliseconds(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot() as robot:
        ran = await program("stop", "R1", "--reason", "有人靠近", GUARDIAN_PROFILE=str(profile))

    assert ran.exit_code == DONE, ran.err
    assert [line.split()[2] for line in ran.out.splitlines()[:4]] == [
        "sent",
        "accepted",
        "actuated",
        "verified",
    ]
    assert "机器人 robot 1.2 ms" in ran.out
    assert "已停稳" in ran.out.splitlines()[-1]
    assert robot.heard[0]["args"] == {"response": "emergency_stop", "reason": "有人靠近"}
    assert ran.err == ""


async def test_stop_speaks_json(site: Site, tmp_path: Path) -> None:
    async with site.robot():
        ran = await guardian("stop", "R1", "--json", profile=site.profile_file(tmp_path))

    *told, result = ran.lines
    assert ran.exit_code == DONE
    assert [line["stage"] for line in told] == ["sent", "accepted", "actuated", "verified"]
    assert {line["type"] for line in told} == {"stage"}
    assert (told[3]["after_us"], told[3]["text"]) == (1200, {"zh": "已确认", "en": "verified"})
    assert told[3]["here_ms"] > 0
    assert result == {
        "type": "result",
        "cmd": "stop",
        "done": True,
        "exit": DONE,
        "robots": {"R1": "verified"},
    }


async def test_hold_is_a_stop_of_its_strength(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot() as robot:
        held = await guardian("hold", "R1", profile=profile)
        safe = await guardian("stop", "R1", "--response", "safe_mode", profile=profile)

    assert (held.exit_code, safe.exit_code) == (DONE, DONE)
    assert [claims["cmd"] for claims in robot.heard] == ["stop", "stop"]
    assert [claims["args"]["response"] for claims in robot.heard] == ["hold", "safe_mode"]


async def test_a_group_ends_with_a_table_and_the_worst_robots_code(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot("R1") as robot, site.robot("R2", ends("failed", "not_verified_in_time")):
        ran = await guardian("stop", "--group", "hall", profile=profile)
        as_json = await guardian("stop", "--all", "--json", profile=profile)

    assert ran.exit_code == as_json.exit_code == FAILED
    assert ran.out.count("R1") == 5
    assert "请立即到现场" in ran.out
    assert as_json.lines[-1]["robots"] == {"R1": "verified", "R2": "failed"}
    assert [claims["aud"] for claims in robot.heard] == ["group:hall", "group:all"]


async def test_a_group_without_robots_is_ordered_and_said_to_be_unknown(site: Site, tmp_path: Path) -> None:
    ran = await guardian("stop", "--group", "empty", profile=site.profile_file(tmp_path))

    assert ran.exit_code == FAILED
    assert "empty" in ran.err


async def test_a_silent_robot_is_not_taken_for_stopped(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot(script=stages("accepted")):
        ran = await guardian("stop", "R1", "--timeout", "0.3", profile=profile)

    assert ran.exit_code == NO_ANSWER
    assert "do not assume that it has stopped" in ran.out


async def test_resume_shows_the_causes_and_blockers_first(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot() as robot:
        await robot.show()
        ran = await guardian("resume", "R1", "--reason", "checked", profile=profile)

    assert ran.exit_code == DONE, ran.err
    assert "急停按钮被按下 Emergency stop pressed [estop_pressed]" in ran.out
    assert "停车原因仍存在" in ran.out
    assert robot.heard[0]["args"] == {"epoch": 7, "challenge": CHALLENGE, "reason": "checked"}


async def test_a_refused_resume_says_what_to_do(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot(script=ends("refused", "reset_needed")) as robot:
        await robot.show()
        ran = await guardian("resume", "R1", profile=profile)
        as_json = await guardian("resume", "R1", "--json", profile=profile)

    assert ran.exit_code == as_json.exit_code == REFUSED
    assert "reset_needed  设备尚未复位" in ran.out
    assert "请到现场复位设备" in ran.out
    state, _, refusal, result = as_json.lines
    assert (state["type"], state["robot_id"], state["epoch"]) == ("state", "R1", 7)
    assert refusal["remedy"]["zh"] == "请到现场复位设备"
    assert result["exit"] == REFUSED


async def test_an_old_state_is_said_to_be_old(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot:
        await robot.show(iat=1)
        ran = await guardian("resume", "R1", profile=site.profile_file(tmp_path))

    assert "this state is old" in ran.err


async def test_without_a_state_there_is_no_resume(site: Site, tmp_path: Path) -> None:
    ran = await guardian("resume", "R1", "--timeout", "0.3", profile=site.profile_file(tmp_path))

    assert ran.exit_code == NO_ANSWER
    assert ran.err.startswith("guardian: R1: 无应答 no state within 0.3 s")


async def test_ping_is_a_round_trip(site: Site, tmp_path: Path) -> None:
    async with site.robot():
        ran = await guardian("ping", "R1", "--json", profile=site.profile_file(tmp_path))

    assert ran.exit_code == DONE
    assert [line.get("stage") for line in ran.lines] == ["sent", "accepted", None]


async def test_watch_prints_what_robots_tell_until_interrupted(site: Site, tmp_path: Path) -> None:
    profile = f"--profile={site.profile_file(tmp_path)}"
    async with site.robot() as robot, running("watch", "R1", "--json", profile) as process:
        await robot.show()
        assert process.stdout is not None
        state = json.loads(await process.stdout.readline())
        await robot.tell("stop", channel="reflex")
        event = json.loads(await process.stdout.readline())
        await robot.publish("state", b"noise")
        problem = json.loads(await process.stdout.readline())
        await robot.link(online=False)
        gone = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        ran = await ended(process)

    assert (state["type"], state["robot_id"], state["response"]) == ("state", "R1", "emergency_stop")
    assert (event["type"], event["kind"], event["channel"]) == ("event", "stop", "reflex")
    assert (problem["type"], problem["topic"], problem["code"]) == ("problem", "state", "malformed")
    assert gone == {"type": "link", "robot_id": "R1", "online": False, "signed": False}
    assert (ran.exit_code, ran.err) == (DONE, "")


async def test_watch_shows_a_state_once_when_asked(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    async with site.robot() as robot:
        await robot.show(causes=[cause("estop_pressed", active=False)], blockers=["reset_needed", "sulking"])
        ran = await guardian("watch", "R1", "--once", profile=profile)
        silent = await guardian("watch", "R2", "--once", "--timeout", "0.3", profile=profile)

    assert ran.exit_code == DONE
    assert "已消除 gone" in ran.out
    assert "sulking" in ran.out, "a code this version does not know is shown all the same"
    assert silent.exit_code == NO_ANSWER


async def test_what_a_robot_says_cannot_drive_the_terminal(site: Site, tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b[1;32m"
    async with site.robot(script=ends("refused", evil)) as robot:
        await robot.show(name=evil, causes=[cause(evil, text={"zh": evil, "en": evil})], blockers=[evil])
        ran = await guardian("resume", "R1", profile=site.profile_file(tmp_path))

    assert ran.exit_code == REFUSED
    assert "\x1b" not in ran.out + ran.err


async def test_an_error_of_the_link_is_one_line(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path)
    with deaf_port() as port:
        away = f"mqtts://127.0.0.1:{port}"
        refused = await guardian("stop", "R1", "--broker", away, profile=profile)
        as_json = await guardian("ping", "R1", "--json", "--broker", away, profile=profile)

    assert refused.exit_code == as_json.exit_code == FAILED
    warning, error = refused.err.splitlines()
    assert "do not assume that it has stopped" in warning
    assert error.startswith("guardian: 连接失败 broker 127.0.0.1")
    assert (as_json.lines[0]["type"], as_json.lines[0]["exit"]) == ("error", FAILED)


async def test_a_foreign_broker_is_one_line(site: Site, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "other")
    profile = str(site.profile_file(tmp_path))

    ran = await program("stop", "R1", "--ca", str(other.pki.ca), GUARDIAN_PROFILE=profile)

    assert ran.exit_code == FAILED
    assert len(ran.err.splitlines()) == 2, ran.err
    assert "CERTIFICATE_VERIFY_FAILED" in ran.err


async def test_an_interrupted_stop_says_that_nothing_is_certain(site: Site, tmp_path: Path) -> None:
    profile = f"--profile={site.profile_file(tmp_path)}"
    async with site.robot(script=stages()) as robot, running("stop", "R1", "--json", profile) as process:
        await wait_until(lambda: robot.heard)
        process.send_signal(signal.SIGINT)
        ran = await ended(process)

    assert ran.exit_code == FAILED
    assert [line["type"] for line in ran.lines] == ["stage", "warning"]
    assert "do not assume that it has stopped" in ran.lines[1]["warning"]


async def test_without_usable_trust_a_stop_is_still_sent(site: Site, tmp_path: Path) -> None:
    profile = site.profile_file(tmp_path, trust=str(tmp_path / "away.jwt"))
    async with site.robot() as robot:
        stopped = await guardian("stop", "R1", "--timeout", "0.5", profile=profile)
        resumed = await guardian("resume", "R1", profile=profile)

    assert [claims["cmd"] for claims in robot.heard] == ["stop"]
    assert (stopped.exit_code, resumed.exit_code) == (NO_ANSWER, FAILED)
    assert "away.jwt" in stopped.err
    assert "away.jwt" in resumed.err


async def test_options_replace_a_whole_profile(site: Site, tmp_path: Path) -> None:
    settings = site.settings()
    options = {"kid": "kid", "signing_key": "signing-key", "root_keys": "root-key"}
    args = []
    for name, value in settings.items():
        args += [f"--{options.get(name, name)}", value[0] if isinstance(value, list) else value]
    async with site.robot():
        ran = await guardian("ping", "R1", *args)

    assert ran.exit_code == DONE, ran.err


async def test_watch_draws_a_table_on_a_terminal_and_events_above_it(site: Site, tmp_path: Path) -> None:
    async def updates() -> AsyncIterator[Update]:
        yield StateSeen("R1", state())
        yield EventSeen("R1", event())
        yield Problem("R1", "state", "malformed", "noise")
        yield Problem("R1", "state", "malformed", "noise")

    screen = io.StringIO()
    show = ShowText(Console(file=screen, force_terminal=True, width=200))
    assert await _watch(show, Session(site.profile(tmp_path)), updates()) == DONE

    assert "事件 event  stop" in screen.getvalue()
    assert screen.getvalue().count("noise") == 1
    assert "福小安" in screen.getvalue()
