"""`headwater snapshots export`: what the folder holds, and that others answer from it as we do."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

import deploy.export
import deploy.export_onnx
from deploy import export_reader
from deploy.cli import app
from deploy.export import write_export
from deploy.export_check import difference
from deploy.export_onnx import write_onnx
from deploy.export_reader import Events, ExportError, Reader
from model.item_keys import item_keys
from model.network import Network, load_dense
from model.programs import RankingProgram, RetrievalProgram
from model.recommender import Recommender
from model.settings import ModelSettings
from storage.aliases import Aliases
from storage.errors import SetupError, SnapshotError
from storage.manifest import ManifestDraft
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.exports import (
    BARE,
    CHILD,
    DESCRIBED,
    FORGOTTEN,
    HIDDEN,
    NOW_MS,
    WIDE,
    columns_of,
    events_of,
    history,
    learned,
    publish,
)
from tests.model.synthetic import SMALL

FILES = ("model.safetensors", "ranking.pt2", "retrieval.pt2", "vocabulary.parquet")
ASKED = ["i3", "never seen", "i40", DESCRIBED, FORGOTTEN, HIDDEN, "i3"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The second of three versions, a delta, which `champion` is pinned to, exported into an empty folder."""
    root = tmp_path_factory.mktemp("exported")
    store = SnapshotStore(SnapshotSettings(url=str(root / "store"), max_delta_share=9.0))
    publish(store, 1, SMALL, learned(SMALL, 320))
    arrays = learned(SMALL, 640)
    manifest = publish(store, 2, SMALL, arrays)
    publish(store, 3, SMALL, learned(SMALL, 64))
    Aliases(store).pin("champion", "run", 2, moved_ms=1)
    folder = root / "made" / "export"
    folder.mkdir(parents=True)
    code = run("--to", str(folder), "--json", str(root / "out.json"), "--snapshots.url", str(root / "store"))
    told = json.loads((root / "out.json").read_text())
    return SimpleNamespace(
        root=root, store=store, manifest=manifest, arrays=arrays, folder=folder, code=code, json=told
    )


@pytest.fixture(scope="module")
def reader(exported: SimpleNamespace) -> Reader:
    """Loaded in this process."""
    return Reader(exported.folder)


@pytest.fixture(params=[SMALL, WIDE, BARE], ids=["default", "wide", "bare"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recommender, Reader]:
    """Ours, and what reads an export of the same weights, whose programs are not exported, which takes seconds."""
    settings: ModelSettings = request.param
    arrays, network = learned(settings, 320), Network(settings)
    load_dense(network, arrays)
    programs = {"retrieval": RetrievalProgram(network), "ranking": RankingProgram(network)}
    for name in programs:
        (tmp_path / f"{name}.pt2").touch()
    monkeypatch.setattr(deploy.export, "export_programs", lambda _: {})
    monkeypatch.setattr(export_reader, "_program", lambda path: programs[path.stem])
    manifest = publish(SnapshotStore(SnapshotSettings(url="memory://")), 1, settings, arrays)
    write_export(tmp_path, manifest, "0" * 64, arrays, onnx=False, say=lambda _: None)
    return Recommender.from_state(settings, arrays), Reader(tmp_path)


@pytest.fixture(scope="module")
def onnx(exported: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The exported program for ranking, and as ONNX, as the reader runs them."""
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx({"ranking": torch.export.load(exported.folder / "ranking.pt2")}, folder)
    places = exported.folder / "ranking.pt2", folder / "ranking.onnx"
    ours, theirs = (export_reader._program(place) for place in places)
    return ours, theirs


def run(*arguments: str) -> Any:
    return app(["snapshots", "export", *arguments], exit_on_error=False, result_action="return_value")


def test_the_command_writes_the_version_that_answers(exported: SimpleNamespace) -> None:
    """A newer version that was rolled back from would reach other teams."""
    assert exported.code == 0
    assert exported.manifest.kind == "delta"
    assert (exported.json["version"], exported.json["items"]) == ("run/v2", int(exported.arrays["items.live"].sum()))
    assert 0 <= exported.json["largest_difference"] <= 1e-5
    assert exported.json["probes"] >= 10
    assert [path.name for path in exported.folder.parent.iterdir()] == ["export"]


def test_the_folder_is_a_whole_checkpoint_with_its_origin(exported: SimpleNamespace) -> None:
    """A delta, or weights of which nobody knows where they came from, are of no use elsewhere."""
    arrays = load_file(exported.folder / "model.safetensors")
    assert arrays.keys() == exported.arrays.keys()
    assert all(np.array_equal(arrays[name], exported.arrays[name]) for name in arrays)
    config = json.loads((exported.folder / "config.json").read_text())
    source = {"run_id": "run", "version": 2, "manifest_sha256": exported.store.manifest_sha256("run", 2)}
    assert config["source"].items() >= source.items()
    names = {path.name for path in exported.folder.iterdir()}
    assert names == config["files"].keys() | {"config.json"} == exported.json["bytes"].keys()
    assert names >= {"README.md", "reader.py", "check.py", "probes.json", *FILES}
    for name, told in config["files"].items():
        content = (exported.folder / name).read_bytes()
        assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert config["programs"]["ranking"]["inputs"]["item_TD"] == {"dtype": "float32", "shape": ["T", 16]}
    assert config["programs"]["ranking"]["inputs"]["now_seconds"] == {"dtype": "int64", "shape": []}
    assert config["programs"]["retrieval"]["inputs"]["counted_IG"] == {"dtype": "float32", "shape": ["I", 2]}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in exported.folder.glob("*.safetensors"))


def test_the_vocabulary_names_every_live_row(exported: SimpleNamespace) -> None:
    """A name that is off by one row would recommend strangers with good scores."""
    table = pq.read_table(exported.folder / "vocabulary.parquet").to_pydict()
    assert table["row"] == np.flatnonzero(exported.arrays["items.live"]).tolist()
    assert table["key"] == item_keys(table["id"]).tolist()
    assert table["count"] == exported.arrays["items.count"][table["row"]].tolist()
    assert [item_id for item_id, shown in zip(table["id"], table["shown"], strict=True) if not shown] == [HIDDEN]
    assert FORGOTTEN not in table["id"]


def test_a_fresh_process_without_our_packages_answers_as_we_do(exported: SimpleNamespace, tmp_path: Path) -> None:
    """What others serve would not be what was learned."""
    recommender = Recommender.from_state(SMALL, exported.arrays)
    sequences = [history(seed) for seed in range(40)]
    # Without `site` nothing but the libraries themselves is on the path, however we are installed.
    line = [sys.executable, "-IBS", "-W", "error", "-c", CHILD, str(exported.folder), sysconfig.get_path("purelib")]
    given = json.dumps([[columns_of(each) for each in sequences], ASKED])
    ended = subprocess.run(line, input=given, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert ended.returncode == 0, ended.stderr
    largest = 0.0
    for sequence, (recommended, ranked) in zip(sequences, json.loads(ended.stdout), strict=True):
        ours = dict(recommender.recommend(sequence, now_ms=NOW_MS, k=1_000))
        assert ours.keys() == dict(recommended).keys()
        largest = max(largest, *(abs(score - ours[item_id]) for item_id, score in recommended))
        for row, other in zip(recommender.rank(sequence, now_ms=NOW_MS, item_ids=ASKED), ranked, strict=True):
            largest = max(largest, *(abs(row[name] - other[name]) for name in row))
    assert 0 < largest <= 1e-5


def test_every_kind_of_model_answers_as_ours_does(pair: tuple[Recommender, Reader]) -> None:
    """Layouts, heads, counts and features each have a way of their own into the programs."""
    recommender, reader = pair
    for seed in range(40, 100):
        sequence, events = history(seed), events_of(history(seed))
        ours = recommender.recommend(sequence, now_ms=NOW_MS, k=30, unavailable={"i5"})
        theirs = reader.recommend(events, now_ms=NOW_MS, k=30, unavailable={"i5"})
        assert [score for _, score in theirs] == pytest.approx([score for _, score in ours], abs=1e-5)
        assert not {item_id for item_id, _ in theirs} & {"i5", HIDDEN, FORGOTTEN}
        ranked = recommender.rank(sequence, now_ms=NOW_MS, item_ids=ASKED)
        for row, other in zip(ranked, reader.rank(events, now_ms=NOW_MS, item_ids=ASKED), strict=True):
            assert other == pytest.approx(row, abs=1e-5)
        if recommender.settings.predict_values:
            values = recommender.values(sequence, now_ms=NOW_MS, item_ids=ASKED)
            assert reader.values(events, now_ms=NOW_MS, item_ids=ASKED) == pytest.approx(values, rel=1e-5)
        else:
            with pytest.raises(ValueError, match="predicts no values"):
                reader.values(events, now_ms=NOW_MS, item_ids=ASKED)


def test_wrong_questions_are_refused(reader: Reader) -> None:
    """Columns that are off by one would be answered."""
    assert reader.rank(Events(), now_ms=NOW_MS, item_ids=[]) == []
    assert reader.mask("like", "rate", "like") == 5
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        reader.recommend(Events(), now_ms=0, k=0)
    with pytest.raises(ValueError, match=r"must have one length, got \[0, 1\]"):
        Events(item_ids=["i1"], ts_ms=[1], actions=[1])


def test_without_xxhash_strange_ids_are_one_nameless_item(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told apart is said, and answered all the same."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "xxhash", None)
        with pytest.warns(UserWarning, match="xxhash is not installed"):
            one, other, known = reader.rank(Events(), now_ms=NOW_MS, item_ids=["never seen", DESCRIBED, "i3"])
    assert one == other
    assert reader.rank(Events(), now_ms=NOW_MS, item_ids=[FORGOTTEN, "i3"]) == [one, known]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused(exported: SimpleNamespace, tmp_path: Path, name: str) -> None:
    """A bit that flips on the way would change scores, or run what nobody wrote."""
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ExportError, match=f"{name} must have .* it is damaged, copy the folder anew"):
        Reader(folder)
    (folder / name).unlink()
    with pytest.raises(ExportError, match="no export of Headwater, or not all of it"):
        Reader(folder)


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"format": "other"}, {"files": {}}, {"files": []}, {"files": None}]
)
def test_another_format_is_refused(exported: SimpleNamespace, tmp_path: Path, change: dict[str, Any]) -> None:
    """A later format would be read as this one."""
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ExportError, match=r"must be a headwater-export of format_version 1|no export of Headwater"):
        Reader(folder)
    for text in (b"", b"[]", b"{", b"\xff\xfe{"):
        (folder / "config.json").write_bytes(text)
        with pytest.raises(ExportError, match="no export of Headwater"):
            Reader(folder)


def test_the_check_sees_every_kind_of_difference(exported: SimpleNamespace, reader: Reader) -> None:
    """A check that passes whatever it is given would promise equality that nobody has seen."""
    probe = json.loads((exported.folder / "probes.json").read_text())[6]

    def found(change: Callable[[dict[str, Any]], None]) -> float:
        other = json.loads(json.dumps(probe))
        change(other)
        return difference(export_reader, reader, other)

    assert found(lambda _: None) <= 1e-5
    assert found(lambda other: other["recommend"][3].__setitem__(1, 7.0)) > 0.1
    assert found(lambda other: other["recommend"][3].__setitem__(0, other["recommend"][40][0])) > 1e-3
    assert found(lambda other: other["recommend"][3].__setitem__(0, "nobody")) == math.inf
    assert found(lambda other: other["rank"][5].__setitem__("rate", other["rank"][5]["rate"] + 1e-4)) > 5e-5
    assert found(lambda other: other["rank"][5].__setitem__("rate", math.nan)) == math.inf
    assert found(lambda other: other["events"]["actions"].__setitem__(-1, 7)) > 1e-5
    assert found(lambda other: other.__setitem__("now_ms", other["now_ms"] + 10**9)) > 1e-5


def test_an_export_that_differs_ends_with_code_1_and_leaves_nothing(
    exported: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that looks right is one that somebody will serve from."""

    monkeypatch.setattr(deploy.export, "write_export", lambda *_, **__: (0, 0))
    line = ("v2", "--to", str(tmp_path / "deep" / "export"), "--snapshots.url", exported.store.settings.url)
    assert run(*line) == 1
    assert "could not be loaded without Headwater: " in capsys.readouterr().out
    assert list((tmp_path / "deep").iterdir()) == []
    monkeypatch.setattr(deploy.export, "check_export", lambda _: 1.1e-5)
    assert run(*line) == 1
    assert "scores of run/v2 differ by 1.1e-05, allowed is 1e-05" in capsys.readouterr().out
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("num_tokens", [1, 2, 32])
def test_an_onnx_program_gives_what_the_one_of_torch_gives(onnx: tuple[Any, Any], num_tokens: int) -> None:
    """Others would serve another model by a runtime that few of us look at."""
    rng = np.random.default_rng(num_tokens)
    times = np.sort(rng.integers(10**6, size=(num_tokens, 2)), axis=0)
    given = {
        "item_TD": torch.from_numpy(rng.normal(size=(num_tokens, SMALL.dim)).astype(np.float32)),
        "has_item_T": torch.from_numpy(rng.random(num_tokens) < 0.5),
        "actions_T": torch.from_numpy(rng.integers(-1, 8, size=num_tokens)),
        "features_T2": torch.from_numpy(rng.integers(-1, 9, size=(num_tokens, 2))),
        "seconds_T": torch.from_numpy(times.min(1)),
        "query_seconds_T": torch.from_numpy(times.max(1)),
        "candidate_CD": torch.from_numpy(rng.normal(size=(num_tokens + 4, SMALL.dim)).astype(np.float32)),
        "counts_CF": torch.from_numpy(rng.random((num_tokens + 4, 4)).astype(np.float32)),
        "total_F": torch.tensor([100.0, 50.0, 20.0, 10.0]),
        "now_seconds": torch.tensor(10**6),
    }
    ours, theirs = (program(**given) for program in onnx)
    assert theirs[0].shape == (num_tokens + 4, 3)
    torch.testing.assert_close(theirs[0], ours[0], rtol=0, atol=1e-5)


def test_onnx_programs_are_written_where_they_are_asked_for(
    exported: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag that is dropped on the way, or minutes of work before it is said what is missing."""
    asked = []

    def noted(*_: Any, onnx: bool, say: Any) -> tuple[int, int]:
        asked.append(onnx)
        return 0, 0

    monkeypatch.setattr(deploy.export, "write_export", noted)
    monkeypatch.setattr(deploy.export, "check_export", lambda _: 0.0)
    store = ("--snapshots.url", exported.store.settings.url)
    assert run("--to", str(tmp_path / "one"), "--onnx", *store) == 0
    assert run("--to", str(tmp_path / "two"), *store) == 0
    monkeypatch.setattr(deploy.export_onnx, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(SetupError, match=r"--onnx needs onnxruntime: pip install 'headwater\[onnx\]'"):
        run("--to", str(tmp_path / "three"), "--onnx", *store)
    assert asked == [True, False]


def test_what_is_there_is_not_replaced(exported: SimpleNamespace, tmp_path: Path) -> None:
    """A folder named by mistake would be gone."""
    store = ("--snapshots.url", exported.store.settings.url)
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(SetupError, match="must be absent or an empty folder, as nothing is replaced"):
            run("--to", str(target), *store)
    with pytest.raises(SetupError, match=r"cannot write .*: Not a directory; name another folder with --to"):
        run("--to", str(tmp_path / "mine.txt" / "export"), *store)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_cannot_be_exported_is_said(exported: SimpleNamespace, tmp_path: Path) -> None:
    """One line that says why, and no folder."""
    target, url = str(tmp_path / "export"), exported.store.settings.url
    with pytest.raises(ValueError, match="a version must be like v42, 42 or RUN/v42, got 'newest'"):
        run("newest", "--to", target, "--snapshots.url", url)
    with pytest.raises(SnapshotError, match=r"v000000009/manifest.json is not in"):
        run("v9", "--to", target, "--snapshots.url", url)
    other = SnapshotStore(SnapshotSettings(url=str(tmp_path / "other")))
    other.publish({"model": {}}, ManifestDraft(run_id="run", version=1))
    with pytest.raises(SnapshotError, match="run/v1 is of a model that this version of Headwater does not know"):
        run("--to", target, "--snapshots.url", str(tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
