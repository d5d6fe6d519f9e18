"""Id maps."""

import pytest

from kinrec.engine.ids import IdMap

IDS = ["u1", "u10", "u2", "näme", "名前", "🙂", "with space", "a/b", "x" * 512]


@pytest.fixture
def saved(tmp_path):
    """A map that went through a file."""
    IdMap.build(IDS).save(tmp_path / "ids.marisa")
    return IdMap.open(tmp_path / "ids.marisa")


def test_round_trip(saved):
    """Every id has its own number from 0 up, and the number leads back to the id."""
    numbers = [saved.get(key) for key in IDS]

    assert sorted(numbers) == list(range(len(IDS)))
    assert [saved.key(number) for number in numbers] == IDS


def test_repeated_ids_count_once():
    """An id given twice is in the map once."""
    assert len(IdMap.build(["a", "b", "a"])) == 2


@pytest.mark.parametrize("key", ["", "u", "u3", "U1", "u1 ", "u1\0", "u1\0x", "\ud800", "名"])
def test_unknown(saved, key):
    """A string that is not in the map has no number, whatever it starts or ends with."""
    assert saved.get(key) is None


def test_the_same_ids_make_the_same_file(tmp_path):
    """The order in which ids come does not change the file."""
    IdMap.build(IDS).save(tmp_path / "a")
    IdMap.build(reversed(IDS)).save(tmp_path / "b")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_asked_for_again_is_the_same(monkeypatch):
    """Numbers and ids are remembered, of known ones alone and no more than so many."""
    monkeypatch.setattr("kinrec.engine.ids._REMEMBERED", 4)
    names = [f"i{number}" for number in range(10)]
    ids = IdMap.build(names)
    for _ in range(3):
        numbers = ids.get_all([*names, "nobody", "i1\0", "\ud800"])
        assert sorted(numbers[:10]) == list(range(10))
        assert numbers[10:] == [None, None, None]
        assert [ids.key(number) for number in numbers[:10]] == names
        assert [ids.get(name) for name in names] == numbers[:10]
    assert len(ids._numbers) <= 4
    assert len(ids._keys) <= 4
    assert set(ids._numbers) <= set(names)
