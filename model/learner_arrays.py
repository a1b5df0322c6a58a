"""The two halves of a learner's state as one set of named arrays, for a file that holds both."""

from collections.abc import Mapping

import numpy as np

from model.online import OnlineLearner
from model.settings import LearnSettings, ModelSettings

_MODEL, _TRAINER = "model/", "trainer/"


def learner_arrays(learner: OnlineLearner) -> dict[str, np.ndarray]:
    """Copies of everything that the learner goes on from."""
    model, trainer = learner.state()
    arrays = {_MODEL + name: array for name, array in model.items()}
    return arrays | {_TRAINER + name: array for name, array in trainer.items()}


def learner_of(arrays: Mapping[str, np.ndarray], model: ModelSettings, learn: LearnSettings) -> OnlineLearner:
    """The learner of `learner_arrays`, among which others may be; raises `ValueError` for other model settings."""
    model_arrays, trainer_arrays = (
        {name.removeprefix(half): array for name, array in arrays.items() if name.startswith(half)}
        for half in (_MODEL, _TRAINER)
    )
    return OnlineLearner.restore(model, learn, model_arrays, trainer_arrays)
