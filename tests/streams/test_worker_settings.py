"""Settings of the worker that a person may get wrong."""

import pytest

from streams.worker_settings import WorkerSettings


def test_a_secret_in_the_checkpoint_url_is_refused_and_not_repeated() -> None:
    """URLs are logged, and stand in every process list."""
    with pytest.raises(ValueError, match="checkpoint_url must hold no name or password") as caught:
        WorkerSettings(checkpoint_url="s3://key:hunter2@bucket/folder")
    assert "hunter2" not in str(caught.value)
    assert WorkerSettings(checkpoint_url="s3://bucket/folder").checkpoint_url == "s3://bucket/folder"
