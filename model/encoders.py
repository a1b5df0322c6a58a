"""Encoders by name: HSTU, what is taken away from it, and what it is held against."""

from dataclasses import replace
from typing import Any

from model.encoder import EncoderSettings
from model.encoder_names import EncoderName
from model.hstu import HSTU
from model.sasrec import SASRec
from model.transformer import Transformer

Encoder = HSTU | SASRec | Transformer
_ABLATIONS: dict[str, dict[str, Any]] = {
    "hstu": {},
    "hstu-no-rab": {"relative_bias": False},
    "hstu-softmax": {"attention": "softmax"},
    "hstu-softmax-no-rab": {"attention": "softmax", "relative_bias": False},
}


def make_encoder(name: EncoderName, settings: EncoderSettings) -> Encoder:
    """The encoder of that name in that shape; its weights are not drawn yet.

    `hstu-no-rab` has no relative bias, `hstu-softmax` a softmax instead of SiLU / N: the ablations of the paper's table
    5. SASRec and Transformer take from the settings what they know: widths, layers, heads, dropout.
    """
    if name == "sasrec":
        return SASRec(settings)
    if name == "transformer":
        return Transformer(settings)
    return HSTU(replace(settings, **_ABLATIONS[name]))
