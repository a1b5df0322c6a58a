"""Triton's kernels in its interpreter on the CPU, compiled without a device, and on a device where there is one."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from model.attention import AttentionPlan, interval_attention
from tests.model.triton_cases import RULE, Inputs, blocked, layout_factory

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: pip install triton")


def run_cases(mode: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": str(int(mode == "interpret")), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-m", "tests.model.triton_cases", mode]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return finished.stderr if finished.returncode else ""


def test_kernels_give_what_blocked_attention_gives() -> None:
    """A model trained on a GPU would be another one than that served on the CPU."""
    assert run_cases("interpret") == ""


def test_kernels_compile_for_a_gpu_where_there_is_none() -> None:
    """The interpreter takes what the compiler does not."""
    assert run_cases("compile") == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """The interpreter knows neither a device's rounding nor its races."""
    layout = layout_factory(targets=True, prefix=True, window=9)
    wanted, inputs = blocked(Inputs(), layout, Inputs().bias), Inputs("cuda")
    plan = AttentionPlan(layout, torch.device("cuda"), relative_bias=True)
    out = interval_attention(inputs.q, inputs.k, inputs.v, plan, inputs.bias, RULE)
    for got, want in zip(inputs.gradients(out), wanted, strict=False):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
