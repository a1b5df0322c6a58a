"""Small corpora and encoders for tests of next-item models."""

import numpy as np
import torch

from model.corpus import Corpus
from model.encoder import EncoderSettings
from model.encoder_names import EncoderName
from model.encoders import Encoder, make_encoder

SHAPE = EncoderSettings(dim=16, num_layers=2, num_heads=2, key_dim=8, value_dim=8, window=32, dropout=0.0)
NAMES: tuple[EncoderName, ...] = (
    "hstu",
    "hstu-no-rab",
    "hstu-softmax",
    "hstu-softmax-no-rab",
    "transformer",
    "sasrec",
)


def encoder_factory(name: EncoderName, shape: EncoderSettings = SHAPE) -> Encoder:
    encoder = make_encoder(name, shape)
    encoder.reset(torch.Generator().manual_seed(0))
    return encoder


def corpus_factory(lengths: tuple[int, ...] = (4, 1, 20, 7, 2), num_items: int = 30) -> Corpus:
    """Random items, none twice for a user, at rising times."""
    draws = np.random.default_rng(0)
    items = [draws.permutation(num_items)[:length] + 1 for length in lengths]
    return Corpus(
        name="made",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items_T=np.concatenate(items),
        seconds_T=1_000 + np.cumsum(draws.integers(1, 5_000, sum(lengths))),
        num_items=num_items,
    )


def cycle_corpus(num_users: int = 40, num_items: int = 60, length: int = 12) -> Corpus:
    """Users who walk around a circle of items, each from a place of their own: the next item follows from the last."""
    items = (np.arange(num_users)[:, None] * 7 + np.arange(length)) % num_items + 1
    return Corpus(
        name="circle",
        offsets=np.arange(num_users + 1) * length,
        items_T=items.flatten(),
        seconds_T=np.tile(np.arange(length) * 60, num_users),
        num_items=num_items,
    )
