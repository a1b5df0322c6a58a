"""Names of the encoders, apart from what they are: a command line offers them without loading torch."""

from typing import Literal

EncoderName = Literal["hstu", "hstu-no-rab", "hstu-softmax", "hstu-softmax-no-rab", "transformer", "sasrec"]
