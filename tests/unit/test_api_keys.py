"""Where a server's key comes from, and that it goes nowhere else."""

from pathlib import Path

import pytest

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.server_settings import ServerSettings, key_file
from kdpo_daemon.settings import Settings, api_key

URL = "https://vllm"


def key_of(server: ServerSettings, credentials: Path | None) -> str | None:
    return api_key(key_file(server, credentials), f"API key of server {server.name}")


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame\n", "utf-8")

    found = key_of(ServerSettings("one", URL, api_key_file=tmp_path / "key"), None)

    assert found == "sesame"


def test_a_key_is_read_from_a_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "vllm-key").write_text("sesame", "utf-8")

    found = key_of(ServerSettings("one", URL, api_key_credential="vllm-key"), tmp_path)

    assert found == "sesame"


def test_without_systemd_the_remedy_is_named() -> None:
    with pytest.raises(SettingsError, match="LoadCredential=vllm-key"):
        key_of(ServerSettings("one", URL, api_key_credential="vllm-key"), None)


def test_a_server_without_a_key_has_none() -> None:
    assert key_of(ServerSettings("one", URL), None) is None


@pytest.mark.parametrize("text", ["", "\n", "open sesame", "open\nsesame", "sésame", "a\x00b"])
def test_what_is_no_key_is_refused_without_being_repeated(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text, "utf-8")

    with pytest.raises(SettingsError, match="holds no key") as caught:
        key_of(ServerSettings("one", URL, api_key_file=tmp_path / "key"), None)

    assert "sesame" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"API key of server one .*No such file"):
        key_of(ServerSettings("one", URL, api_key_file=tmp_path / "key"), None)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ('url = "https://ada:secret@vllm"', "holds a user name"),
        (f'url = "{URL}"\napi_key_file = "a"\napi_key_credential = "b"', "not both"),
    ],
)
def test_settings_that_would_leak_or_are_two_things_at_once_are_refused(
    tmp_path: Path, server: str, reason: str
) -> None:
    file = tmp_path / "kdpo.toml"
    file.write_text(f'[[servers]]\nname = "one"\n{server}\n', "utf-8")

    with pytest.raises(SettingsError, match=reason) as caught:
        Settings.read(file, frozenset())

    assert "secret" not in str(caught.value)


def test_paths_of_a_server_are_taken_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "kdpo.toml"
    server = f'name = "one"\nurl = "{URL}"\napi_key_file = "key"\nca_file = "ca.pem"'
    file.write_text(f"[[servers]]\n{server}\n", "utf-8")

    [found] = Settings.read(file, frozenset()).servers

    assert (found.api_key_file, found.ca_file) == (tmp_path / "key", tmp_path / "ca.pem")
