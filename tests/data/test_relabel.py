"""A pack whose labels a person corrects."""

import csv
import os
import re
from pathlib import Path

import pytest

from data.clip import Labels, LabelSet
from data.codes import Codes
from data.errors import DataError
from data.labels import LabelTable
from data.pack import Pack
from data.relabel import LOG_COLUMNS, RELABELLED_NAME, main, read_corrections, relabel
from data.taxonomy import FAMILIES
from data.writer import write_pack


def table(folder: Path, *lines: str, header: str = "clip,level,given,correction", encoding: str = "utf-8") -> Path:
    path = folder / "corrections.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding=encoding)
    return path


def family_of(pack: Pack, clip: str) -> str | None:
    row = pack.column("id").tolist().index(clip)
    code = int(LabelTable(pack).single_family[row])
    return FAMILIES[code] if code >= 0 else None


def log_of(folder: Path) -> list[dict]:
    with open(folder / RELABELLED_NAME, newline="") as file:
        return list(csv.DictReader(file))


def test_corrects_in_place_and_tells_what_changed(copied_pack, tmp_path, capsys):
    before = Pack.open(copied_pack)
    assert family_of(before, "toy/0000") == "string"
    sound = before.sound_fingerprint
    path = table(tmp_path, "toy/0000,family,string,flute", "toy/0001,family,brass,", "toy/0003,family,,none")
    assert main([str(copied_pack), str(path)]) == 0
    assert "2 corrections, 2 of 120 clips changed" in capsys.readouterr().out
    after = Pack.open(copied_pack)
    after.verify()
    assert after.fingerprint != before.fingerprint
    assert after.sound_fingerprint == sound
    assert Codes.mapped(copied_pack, after.info.codes_checksum, after.info.manifest_checksum) is not None
    assert [family_of(after, f"toy/{number:04d}") for number in (0, 1, 3, 4)] == ["flute", "brass", None, "brass"]
    assert LabelTable(after).column("is_instrument")[3] == 0
    touched = ["family_present", "is_instrument", "instrument_present", "instrument_absent", "instrument_complete"]
    assert after.manifest.drop(touched).equals(before.manifest.drop(touched))
    assert log_of(copied_pack)[0] == dict(
        zip(LOG_COLUMNS, ("toy/0000", "family_present", "string", "flute"), strict=True)
    )
    assert sorted(path.name for path in copied_pack.iterdir() if path.name.startswith(".")) == []


def test_a_second_time_changes_nothing_and_a_second_table_is_logged_too(copied_pack, tmp_path):
    path = table(tmp_path, "toy/0000,family,string,flute")
    assert main([str(copied_pack), str(path)]) == 0
    fingerprint, files = Pack.open(copied_pack).fingerprint, log_of(copied_pack)
    assert main([str(copied_pack), str(path)]) == 0
    assert (Pack.open(copied_pack).fingerprint, log_of(copied_pack)) == (fingerprint, files)
    assert main([str(copied_pack), str(table(tmp_path, "toy/0001,family,brass,organ"))]) == 0
    assert [line["clip"] for line in log_of(copied_pack)] == ["toy/0000", "toy/0001"]


def test_a_new_pack_shares_the_shards_of_the_old_one(copied_pack, tmp_path):
    before = Pack.open(copied_pack)
    path = table(tmp_path, "toy/0000,family,string,flute")
    assert main([str(copied_pack), str(path), "--out", str(tmp_path / "new" / "better")]) == 0
    after = Pack.open(tmp_path / "new" / "better")
    after.verify()
    assert family_of(after, "toy/0000") == "flute"
    assert family_of(Pack.open(copied_pack), "toy/0000") == "string"
    assert (after.info.name, after.info.plan) == ("better", before.info.plan)
    name = "shard_00000.i16"
    assert os.path.samefile(copied_pack / name, after.folder / name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["better"]


def test_a_kill_leaves_the_old_labels_or_is_made_good(copied_pack, tmp_path, monkeypatch):
    path, fingerprint = table(tmp_path, "toy/0000,family,string,flute"), Pack.open(copied_pack).fingerprint
    real, done = os.replace, []

    def killed(source, target):
        if Path(target).parent == copied_pack:
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(target)
        real(source, target)

    for stop in range(4):
        done.clear()
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            main([str(copied_pack), str(path)])
        monkeypatch.setattr(os, "replace", real)
        assert family_of(Pack.open(copied_pack), "toy/0000") == ("string" if stop < 3 else "flute")
        assert main([str(copied_pack), str(table(tmp_path, "toy/0001,family,,"))]) == 0
        found = Pack.open(copied_pack)
        found.verify()
        assert found.fingerprint != fingerprint
        assert family_of(found, "toy/0000") == "flute"
        assert main([str(copied_pack), str(table(tmp_path, "toy/0000,family,,string"))]) == 0
        path = table(tmp_path, "toy/0000,family,string,flute")


def test_a_timbre_stays_with_clips_of_one_mind(make_clips, tmp_path):
    clips = make_clips(6, labels=Labels(True, LabelSet(("string",), complete=True), timbre="a", pitch=60))
    pack = write_pack(clips, tmp_path / "timbres", processes=1)
    ids = pack.column("id").tolist()
    lines = [f"{clip},family,string,brass" for clip in ids]
    found, _ = relabel(pack, read_corrections(table(tmp_path, *lines[:2])), tmp_path / "some")
    assert found.column("timbre").tolist() == [None, None, "a", "a", "a", "a"]
    found, changes = relabel(pack, read_corrections(table(tmp_path, *lines)), tmp_path / "all")
    assert set(found.column("timbre")) == {"a"}
    assert {change["column"] for change in changes} == {"family_present"}
    found, _ = relabel(pack, read_corrections(table(tmp_path, f"{ids[0]},family,,none")), tmp_path / "none")
    assert found.column("timbre")[0] is None


def test_tables_as_spreadsheets_save_them(tmp_path):
    path = table(tmp_path, '"a;b";family; brass ', "c;genre;", header="clip;level;correction", encoding="utf-8-sig")
    (one,) = read_corrections(path)
    assert (one.line, one.clip, one.level, one.text, one.given) == (2, "a;b", "family", "brass", "")


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["toy/9999,family,,flute"], None, "line 2: .* has no clip 'toy/9999'"),
        (["toy/0000,family,,flutes"], None, "no such name as 'flutes'; did it mean flute"),
        (["toy/0000,family,brass,flute"], None, "was 'brass' when the table was made"),
        ([], "clip,level", "should have the columns clip, level, correction, correction not found"),
        (['"toy/0000,family,,flute'], None, "cannot be read as a table of corrections"),
    ],
)
def test_bad_tables_change_nothing(copied_pack, tmp_path, capsys, lines, header, message):
    fingerprint = Pack.open(copied_pack).fingerprint
    path = table(tmp_path, *lines, **({"header": header} if header else {}))
    assert main([str(copied_pack), str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert Pack.open(copied_pack).fingerprint == fingerprint
    assert not (copied_pack / RELABELLED_NAME).exists()


def test_other_bad_input(copied_pack, tmp_path, capsys):
    assert main([str(copied_pack), str(tmp_path / "none.csv")]) == 2
    assert main([str(tmp_path), str(table(tmp_path))]) == 2
    assert main([str(copied_pack), str(table(tmp_path)), "--out", str(tmp_path)]) == 2
    assert "is there already; choose another --out" in capsys.readouterr().err
    with pytest.raises(DataError, match="level should be one of"):
        relabel(Pack.open(copied_pack), read_corrections(table(tmp_path, "toy/0000,pitch,,60")))
