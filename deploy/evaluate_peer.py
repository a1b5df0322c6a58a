"""`headwater evaluate prequential --peer NAME`: a data set through a peer, under the learner's own protocol."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from deploy.evaluate import PROTOCOL, EventProgress, interactions, model_of, tell_run
from deploy.prequential_state import add_row
from model.evaluation import WARM_UP, EventRank
from model.peer_run import peer_run
from model.peers.peer_names import PeerName
from model.peers.peers import make_peer
from model.prequential import PrequentialFigures
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset


def evaluate_peer(
    dataset: Dataset,
    peer: PeerName,
    model: ModelSettings,
    learn: LearnSettings,
    *,
    freeze_after: float | None = None,
    ranks: Path | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the protocol, print and return the figures, named as the learner's; odds of actions are null.

    Of the settings, `positive_action`, `seed` and `num_threads` count; all else of a peer is its own. Raises
    `SetupError`, and `ValueError` for shares outside [0, 1].
    """
    console = console or Console()
    console.print(PROTOCOL, markup=False, highlight=False)
    torch.set_num_threads(learn.num_threads)
    made = make_peer(
        peer,
        seed=learn.seed,
        max_items=len(set(dataset.item_ids)),
        warm_up_events=int(WARM_UP * len(dataset)),
    )
    kept, rows = list[EventRank](), list[dict[str, Any]]()
    with EventProgress(console, len(dataset)) as progress:

        def show(events: int, figures: PrequentialFigures) -> None:
            progress.show(events, figures)
            add_row(rows, events, figures, len(dataset))

        report = peer_run(
            made,
            interactions(dataset),
            total=len(dataset),
            positive_index=model_of(dataset, model).positive_index,
            freeze_after=freeze_after,
            progress=show,
            ranks=kept,
        )
    run = {"data": dataset.name, "peer": peer, "freeze_after": freeze_after}
    return tell_run(console, run, report, rows, kept, ranks=ranks, plot=plot, drifts=dataset.drift_rows)
