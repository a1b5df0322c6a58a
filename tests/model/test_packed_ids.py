from model.packed_ids import pack_ids, unpack_ids


def test_ids_of_any_unicode_survive_packing() -> None:
    """Ids are the users' own: 256 bytes of anything."""
    ids = ["", "a", "日本語" * 20, "\x00\n", "🎬", "\ud800"]
    assert unpack_ids(*pack_ids(ids)) == ids
    assert unpack_ids(*pack_ids([])) == []
    assert unpack_ids(*pack_ids(["plain", "", "ids"])) == ["plain", "", "ids"]
    assert unpack_ids(*pack_ids(["\ud83c", "\udfac"])) == ["\ud83c", "\udfac"]
