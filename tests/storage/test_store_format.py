from pathlib import Path

import pytest

from storage.changes import Change, Forgot, Ticked, Updated
from storage.header import FORMAT_VERSION
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.records import acted, exposed, refused

FORMAT = {
    b"aada": "9294042ca36167652894042ca36e6577c3",
    b"b\x00\x03ada\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": (
        "00000000000000c00000000004000000000000000000000000000000000000000100000000000000784aec3b5e2ee7e511cdb280"
        "646cf0ea350bafb4f7387bbd000000000000f87f0000ff0100000000000000000000000000000000000100000000000000784aec"
        "3b5e2ee7e5b30cf16c000a94f7350bafb4f7387bbd000000000000f87f0100ff0200010000000000000001000000000000000200"
        "000000000000000000000000000011cdb280646cf0ea350bafb4f7387bbd00000000000004400000010100020000000000000002"
        "0000000000000003000000000000000000000000000000b30cf16c000a94f70000000000000000000000000000f87f0000030200"
        "78c3a978c3a9"
    ),
    b"f\x00\x03b\xc3\xa9\x00\x00\x00\x00\x00\x00\x00\x05": (
        "01000000050000000000000005000000000000000600000000000000000000000000000011cdb280646cf0ea0000000000000000"
        "000000000000f87f000001010078"
    ),
    b"h": (
        "8cae666f726d61745f76657273696f6e02a5746f706963a66576656e7473a9706172746974696f6e01ae6e756d5f706172746974"
        "696f6e7304a7616374696f6e7394a5636c69636ba46c696b65a76469736c696b65a472617465a363617032b36174747269627574"
        "696f6e5f7365636f6e6473cb40f5180000000000ad6578706f737572655f72617465cb3ff0000000000000ac73616d706c655f65"
        "7665727902b073616d706c655f6578706f737572657309b36c6162656c5f64656c61795f7365636f6e6473cb0000000000000000"
        "b373657373696f6e5f6761705f7365636f6e6473cb409c200000000000"
    ),
    b"l": (
        "86a8746f7069635f6964a27431a565706f636800a76170706c69656406a96e756d5f757365727302aa6e756d5f74696d65727302"
        "ac77617465726d61726b5f6d7363"
    ),
    b"o\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00": (
        "84a474797065a673616d706c65a7757365725f6964a3616461a573696e6365ffab6e756d5f7265636f72647304"
    ),
    b"o\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00": (
        "89a474797065ab646561645f6c6574746572a66f666673657403a86b61666b615f6d7301a56361757365aa77726f6e675f747970"
        "65a76d657373616765a13fa36b6579c40100a468656164c4027b7da473697a6502a6736861323536a130"
    ),
    b"t\x00\x00\x00\x00\x00\x1bw@ada": "",
    b"t\x00\x00\x00\x00\x00\x1bwEb\xc3\xa9": "",
    b"uada": ("9f0200000002ce001b77400400d3c0000000000000000003ce05265c01020090"),
    b"ub\xc3\xa9": ("9fff01000505ce001b77450100d3c0000000000000000100d3c000000000000000000090"),
}
"""Every key and value, in hexadecimal, of the store that `fill` fills."""


def fill(folder: Path) -> SequenceStore:
    """A store with a value of every kind: a block, a fragment, timers, features, a sample, a refused record."""
    settings = StoreSettings(folder=folder, cap=50, sample_every=2, sample_exposures=9)
    store = SequenceStore.open(settings, topic="events", partition=1, num_partitions=4, topic_id="t1")
    chunks: list[list[Change]] = [
        [exposed(0, "x", "é", request_id="r", event_id="e"), acted(1, "x", value=2.5, request_id="r")],
        [acted(2, "é", action=3), refused(3)],
        [Updated(4, "ada", 44, {"age": 40, "new": True}), acted(5, user_id="bé"), Ticked(6, 99)],
    ]
    for changes in chunks:
        store.apply(changes[0].offset, changes[-1].offset, changes)
    return store


def test_the_database_of_a_small_log_is_these_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of another layout under the same version is read as nonsense: whoever changes this raises the version."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 1)
    assert FORMAT_VERSION == 2
    store = fill(tmp_path)
    found = [(key, value.hex()) for key, value in store._db.scan(b"", b"\xff")]
    store.close()
    assert found == list(FORMAT.items())


FORGOTTEN = {
    b"g": "07",
    b"o\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00": "82a474797065a6666f72676574a7757365725f6964a3616461",
}
"""What is there besides once Ada was forgotten."""


def test_a_forgotten_user_is_these_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above; all that tells of Ada is gone."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 1)
    store = fill(tmp_path)
    store.apply(7, 7, [Forgot(7, "ada")])
    found = {key: value.hex() for key, value in store._db.scan(b"", b"\xff")}
    store.close()
    gone = {key for key in FORMAT if b"ada" in key} | {b"o" + (2).to_bytes(8, "big") + bytes(4), b"l"}
    log = found.pop(b"l")
    assert found == {key: value for key, value in FORMAT.items() if key not in gone} | FORGOTTEN
    assert log == FORMAT[b"l"].replace("6c696564" + "06", "6c696564" + "07").replace("727302", "727301")
