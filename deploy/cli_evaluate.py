"""Verbs that measure quality: `headwater evaluate ...`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from deploy.cli_app import Columns, Data, Folder, JsonFile, evaluate_app, pairs, say
from deploy.json_file import write_json
from model.encoder_names import EncoderName
from model.peers.peer_names import PeerName
from model.settings import LearnSettings, ModelSettings
from model.stochastic_length import Selection
from streams.dataset import Dataset

Resume = Annotated[Path | None, Parameter(help="Keep the run's state in this file, and go on from there.")]
ResumeFolder = Annotated[Path | None, Parameter(help="Keep each run's state in this folder, and go on from there.")]
Plot = Annotated[Path | None, Parameter(help="Draw the curve into this PNG file.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto: CUDA where there is a device.")]
Users = Annotated[Path | None, Parameter(help="Tell the model what this file says of users: user_id, features.")]
Threads = Annotated[int, Parameter(help="Threads of torch.")]


@evaluate_app.command
def prequential(
    *,
    data: Data = "ml-100k",
    columns: Columns = "",
    peer: Annotated[
        PeerName | None, Parameter(help="Score this instead; its settings are its own, but the seed.")
    ] = None,
    freeze_after: Annotated[float | None, Parameter(help="Stop learning after this share of the events.")] = None,
    ranks: Annotated[Path | None, Parameter(help="Write event, user_id, item_id, rank to this Parquet file.")] = None,
    json: JsonFile = None,
    plot: Plot = None,
    resume: Resume = None,
    limit: Annotated[int | None, Parameter(help="Take only so many rows.")] = None,
    users: Users = None,
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
    model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
    learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
) -> int:
    """Score each event before it is learned, over a whole data set in time order, without Kafka."""
    from deploy.evaluate import evaluate_prequential
    from deploy.evaluate_peer import evaluate_peer

    dataset = _dataset(data, columns, limit, cache, data_folder, users)
    if peer is None:
        figures = evaluate_prequential(
            dataset, model, learn, freeze_after=freeze_after, ranks=ranks, resume=resume, plot=plot
        )
    elif resume is not None or users is not None:
        raise ValueError("--resume and --users must be left out with --peer: it is run at once and told of no features")
    else:
        figures = evaluate_peer(dataset, peer, model, learn, freeze_after=freeze_after, ranks=ranks, plot=plot)
    write_json(json, figures)
    return 0


@evaluate_app.command
def compare(
    a: Path,
    b: Path,
    *,
    window: Annotated[int, Parameter(help="Targets of a sliding window.")] = 10_000,
    json: JsonFile = None,
) -> int:
    """Hold the ranks of two runs on one stream (`prequential --ranks`) against each other, event by event."""
    from deploy.evaluate_compare import evaluate_compare

    write_json(json, evaluate_compare(a, b, window=window))
    return 0


def _dataset(
    data: str, columns: str, limit: int | None, cache: Path, folder: Path | None, users: Path | None
) -> Dataset:
    from streams.datasets import load_dataset, read_users

    dataset = load_dataset(data, cache=cache, folder=folder, columns=pairs(columns), say=say).head(limit)
    return dataset if users is None else replace(dataset, user_features=read_users(users))


@evaluate_app.command
def leave_one_out(
    *,
    data: Data = "ml-1m",
    columns: Columns = "",
    model: Annotated[EncoderName, Parameter(help="HSTU, an ablation of it, or what it is compared with.")] = "hstu",
    preset: Annotated[Literal["base", "large"], Parameter(help="2 layers of 1 head, or 8 of 2; 50 wide.")] = "base",
    epochs: int = 101,
    alpha: Annotated[float, Parameter(help="Of stochastic length, in (1, 2]; 2: learn from whole histories.")] = 2.0,
    selection: Annotated[Selection, Parameter(help="Which events of a shortened history stay.")] = "weighted",
    seed: int = 0,
    evaluate_every: Annotated[int, Parameter(help="Take figures every so many epochs, and after the last.")] = 5,
    json: JsonFile = None,
    plot: Plot = None,
    resume: Resume = None,
    threads: Threads = 1,
    device: Device = "auto",
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
) -> int:
    """Learn from all but each user's last event over many epochs, then rank all items for that one."""
    from deploy.evaluate_leave_one_out import PRESETS, evaluate_leave_one_out
    from model.leave_one_out import LeaveOneOutSettings
    from streams.histories import load_corpus

    settings = LeaveOneOutSettings(
        encoder=model, num_epochs=epochs, alpha=alpha, selection=selection, seed=seed, **PRESETS[preset]
    )
    figures = evaluate_leave_one_out(
        load_corpus(data, cache=cache, folder=data_folder, columns=pairs(columns), say=say),
        settings,
        evaluate_every=evaluate_every,
        resume=resume,
        plot=plot,
        device=device,
        num_threads=threads,
    )
    write_json(json, figures)
    return 0


@evaluate_app.command
def stream_synthetic(
    *,
    models: Annotated[
        tuple[EncoderName, ...],
        Parameter(consume_multiple=True, help="HSTU and what it is compared with; the stream has no times."),
    ] = ("hstu-no-rab", "hstu-softmax-no-rab", "transformer"),
    rates: Annotated[
        tuple[float, ...],
        Parameter(consume_multiple=True, help="Learning rates; each model is judged at its best."),
    ] = (3e-4, 1e-3, 3e-3),
    seeds: Annotated[
        tuple[int, ...], Parameter(consume_multiple=True, help="Each makes a stream and draws the weights.")
    ] = (0, 1, 2),
    records: Annotated[int, Parameter(help="Records of a stream, a multiple of 20.")] = 100_000,
    ids: int = 2_000,
    categories: int = 100,
    json: JsonFile = None,
    plot: Plot = None,
    resume: ResumeFolder = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> int:
    """Hold architectures against each other in a single pass over a made stream with a growing vocabulary."""
    from deploy.evaluate_stream import evaluate_stream
    from model.stream_run import StreamSettings
    from model.urn_stream import UrnSettings

    stream = UrnSettings(num_records=records, num_ids=ids, num_categories=categories)
    plans = [
        StreamSettings(encoder=model, rate=rate, seed=seed, stream=stream)
        for seed in seeds
        for model in models
        for rate in rates
    ]
    figures = evaluate_stream(plans, resume=resume, plot=plot, device=device, num_threads=threads)
    write_json(json, figures)
    return 0


@evaluate_app.command
def rank(
    *,
    data: Data = "kuairand-pure",
    columns: Columns = "",
    actions: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, help="Actions that are reported; without it, all.")
    ] = (),
    json: JsonFile = None,
    plot: Plot = None,
    resume: Resume = None,
    limit: Annotated[int | None, Parameter(help="Take only so many rows.")] = None,
    users: Users = None,
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
    model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
    learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
) -> int:
    """Give the odds of every action on each exposure before it is learned, beside two counted rates."""
    from deploy.evaluate_rank import evaluate_rank

    dataset = _dataset(data, columns, limit, cache, data_folder, users)
    figures = evaluate_rank(dataset, model, learn, actions=actions, resume=resume, plot=plot)
    write_json(json, figures)
    return 0
