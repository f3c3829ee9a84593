"""`.env.example` says about every setting what the code says."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from worker.settings import SETTINGS, Setting

TEXT = (Path(__file__).parent.parent / ".env.example").read_text("utf-8")

# A setting is a paragraph: comment lines that explain it, then NAME=default, which is commented
# out unless the setting must be set.
PARAGRAPH = re.compile(r"(?P<comment>(?:# .+\n)+)(?P<off>#?)(?P<name>[A-Z_]+)=(?P<default>.*)\n")
FOUND = {match["name"]: match for match in PARAGRAPH.finditer(TEXT)}

each = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


def test_it_names_every_setting_once_and_none_else() -> None:
    assert sorted(re.findall(r"^#?([A-Z_]+)=", TEXT, re.MULTILINE)) == sorted(
        setting.name for setting in SETTINGS
    )


@each
def test_it_shows_the_default(setting: Setting) -> None:
    assert FOUND[setting.name]["default"] == (setting.default or "")


@each
def test_only_what_must_be_set_is_not_commented_out(setting: Setting) -> None:
    assert (FOUND[setting.name]["off"] == "") == (setting.default is None)


@each
def test_it_says_what_the_setting_means(setting: Setting) -> None:
    comment = " ".join(line.strip("# ") for line in FOUND[setting.name]["comment"].splitlines())
    file = f" (or {setting.name}_FILE)" if setting.secret else ""
    assert comment == setting.meaning + file


def test_it_fits_the_screen_and_has_no_value_that_environment_files_read_differently() -> None:
    """Docker and systemd read these files too, without our rules for quotes and comments."""
    for line in TEXT.splitlines():
        assert len(line) <= 100
        assert line.startswith("# ") or not re.search(r"[\"'$ ]", line), line


def test_a_mere_copy_of_it_sets_nothing(tmp_path: Path) -> None:
    copy = tmp_path / ".env"
    copy.write_text(TEXT)
    assert not any(dotenv_values(copy).values())
