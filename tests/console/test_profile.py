"""A profile is checked whole before anything is sent; errors name file, key and bound."""

import json
from pathlib import Path

import pytest

from console.errors import ProfileError
from console.profile import Profile, load_profile

SETTINGS: dict[str, object] = {
    "kid": "g.li",
    "signing_key": "keys/g.li.ed25519.pem",
    "broker": "mqtts://broker.example:8884",
    "ca": "ca.crt",
    "cert": "/etc/warden/li.crt",
    "key": "~/li.key",
    "trust": "trust.jwt",
    "root_keys": ["root.jwk"],
}


def write(folder: Path, **changes: object) -> Path:
    settings = {**SETTINGS, **changes}
    path = folder / "guardian.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if value is not None]
    path.write_text("\n".join(lines), "utf-8")
    return path


def refused(path: Path | None, **overrides: object) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        load_profile(path, overrides)
    return caught.value


def test_paths_are_relative_to_the_profile(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path), {})

    assert profile.signing_key == tmp_path / "keys" / "g.li.ed25519.pem"
    assert profile.root_keys == [tmp_path / "root.jwk"]
    assert profile.cert == Path("/etc/warden/li.crt")
    assert profile.key == Path.home() / "li.key"
    assert (profile.kid, profile.protocol, profile.address) == ("g.li", "5", ("broker.example", 8884))


def test_a_broker_has_a_usual_port(tmp_path: Path) -> None:
    assert load_profile(write(tmp_path, broker="mqtts://[::1]"), {}).address == ("::1", 8883)


def test_options_come_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    profile = load_profile(
        write(tmp_path), {"kid": "g.wang", "ca": "other.crt", "root_keys": ["a.jwk"], "protocol": "3.1.1"}
    )

    assert (profile.kid, profile.protocol) == ("g.wang", "3.1.1")
    assert profile.ca == elsewhere / "other.crt", (
        "a path of the command line is relative to the working folder"
    )
    assert profile.root_keys == [elsewhere / "a.jwk"]
    assert profile.trust == tmp_path / "trust.jwt"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"kid": None}, "kid"),
        ({"kid": "a b"}, "kid"),
        ({"kid": "g.li\n"}, "kid"),
        ({"kid": 5}, "kid"),
        ({"signing_key": ""}, "signing_key"),
        ({"signing_key": 5}, "signing_key"),
        ({"broker": "broker.example"}, "broker"),
        ({"broker": "mqtt://broker.example"}, "broker"),
        ({"broker": "mqtts://"}, "broker"),
        ({"broker": "mqtts://broker.example:0x1"}, "broker"),
        ({"broker": "mqtts://broker.example:70000"}, "broker"),
        ({"broker": "mqtts://li:secret@broker.example"}, "broker"),
        ({"broker": "mqtts://broker.example/path"}, "broker"),
        ({"protocol": 5}, "protocol"),
        ({"protocol": "3.1"}, "protocol"),
        ({"root_keys": []}, "root_keys"),
        ({"root_keys": "root.jwk"}, "root_keys"),
        ({"root_keys": [5]}, "root_keys.0"),
        ({"pasword": "x"}, "pasword"),
    ],
)
def test_a_broken_key_is_named(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    path = write(tmp_path, **changes)

    error = refused(path)

    assert (error.source, error.key) == (str(path), key)
    assert error.bound
    assert str(error) == f"{path}: {key}: {error.bound}"


def test_a_broken_option_is_named_as_one(tmp_path: Path) -> None:
    path = write(tmp_path)

    assert (refused(path, broker="http://x").source, refused(path, kid="a b").source) == ("--broker", "--kid")
    assert refused(path, root_keys=[]).source == "--root-key"


@pytest.mark.parametrize("content", [b"\xff", b"kid =", b"kid = 1\nkid = 2", b"#" * 70000])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "guardian.toml"
    path.write_bytes(content)

    assert refused(path).source == str(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path / "away.toml").bound
    assert "Is a directory" in refused(tmp_path).bound


def test_the_default_file_may_be_missing_when_options_say_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert refused(None).source == str(tmp_path / ".config/robot-warden/guardian.toml")
    assert refused(None, kid="g.li").key == "signing_key"
    assert load_profile(None, SETTINGS).kid == "g.li"


def test_every_key_is_described() -> None:
    assert all(field.description for field in Profile.model_fields.values())
