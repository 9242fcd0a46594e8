"""Published CSVs: read by column, and said with their place where they are damaged."""

import pytest

from data.errors import DataError
from data.sources.table import rows, standing_at


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def test_rows_by_column_with_where_they_stand(tmp_path):
    path = write(tmp_path / "labels.csv", b'\xef\xbb\xbffname,labels\n1,"Dog,Bark"\n"2\n3",Cat\n4,\xc3\xa9\n')
    assert list(rows(path, ("fname", "labels"), "FSD50K")) == [
        (f"{path}, line 2", {"fname": "1", "labels": "Dog,Bark"}),
        (f"{path}, line 4", {"fname": "2\n3", "labels": "Cat"}),
        (f"{path}, line 5", {"fname": "4", "labels": "é"}),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"should have a column 'fname', found an empty file; unpack FSD50K again"),
        (b"name,labels\n1,Dog\n", r"should have a column 'fname', found name, labels; unpack FSD50K again"),
        (b"fname,labels\n1,Dog\n2\n", r"line 3: 2 cells were expected, more or fewer found"),
        (b"fname,labels\n1,Dog,Bark\n", r"line 2: 2 cells were expected, more or fewer found"),
        (b'fname,labels\n1,"Dog\n', r"should be a CSV in UTF-8 \(unexpected end of data\)"),
        (b"fname,labels\n1,\xff\n", r"should be a CSV in UTF-8 \('utf-8' codec"),
    ],
)
def test_a_damaged_table_is_said_with_its_place(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        list(rows(write(tmp_path / "labels.csv", content), ("fname", "labels"), "FSD50K"))


def test_no_table(tmp_path):
    with pytest.raises(DataError, match=r"FSD50K's table was expected at .*labels.csv \(No such file"):
        list(rows(tmp_path / "labels.csv", ("fname",), "FSD50K"))


def test_what_is_wrong_with_a_row_is_said_with_its_place():
    with pytest.raises(DataError, match=r"^labels\.csv, line 7: no such label$"), standing_at("labels.csv, line 7"):
        raise DataError("no such label")
