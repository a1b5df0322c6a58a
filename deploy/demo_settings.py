"""Settings of a demo's run: folders of its own, and another port wherever the usual one is taken."""

import time
from dataclasses import replace
from pathlib import Path

from deploy.broker import free_port, port_is_free
from deploy.settings import Settings
from model.settings import LearnSettings, ModelSettings


def demo_settings(
    folder: Path, actions: tuple[str, ...], model: ModelSettings, learn: LearnSettings, serve_port: int
) -> Settings:
    """Settings of a fresh run in `folder`, which begins now."""
    usual = Settings()
    run = (folder / "runs" / time.strftime("%Y%m%d-%H%M%S")).absolute()
    web_port = free_or_usual(usual.worker.web_port)
    return replace(
        usual,
        kafka=replace(usual.kafka, bootstrap_servers=(f"127.0.0.1:{free_or_usual(9092)}",)),
        store=replace(usual.store, folder=run / "state", actions=actions),
        worker=replace(usual.worker, web_port=web_port),
        model=replace(model, actions=actions),
        learn=learn,
        learner=replace(usual.learner, metrics_port=free_or_usual(usual.learner.metrics_port)),
        snapshots=replace(usual.snapshots, url=str(run / "snapshots")),
        serve=replace(
            usual.serve,
            port=serve_port,
            worker_urls=(f"http://127.0.0.1:{web_port}",),
            # A look is cheap where the store is a folder.
            poll_seconds=0.2,
            page_clicks=True,
        ),
    )


def free_or_usual(usual: int) -> int:
    """The usual port, or any other where that is taken."""
    return usual if port_is_free("127.0.0.1", usual) else free_port()
