"""Triton's kernels against blocked attention, in a process of its own: TRITON_INTERPRET counts when Triton is imported.

`python -m tests.model.triton_cases interpret` (with TRITON_INTERPRET=1) or `compile`; fails where they differ.
"""

import importlib
import sys

import numpy as np
import torch
from torch import Tensor

from model.attention import AttentionPlan, interval_attention
from model.bias import RelativeBias
from model.blocked_attention import Rule
from model.layout import Layout, sequence_layout

LENGTHS = np.array([1, 5, 40, 70])
RULE = Rule(softmax=False, divisor=10)


def layout_factory(*, targets: bool = False, prefix: bool = False, window: int | None = None) -> Layout:
    rng, total = np.random.default_rng(0), int(LENGTHS.sum())
    return sequence_layout(
        np.r_[0, np.cumsum(LENGTHS)],
        rng.integers(0, 10**8, total),
        rng.integers(0, 10**8, total),
        num_targets=np.array([0, 1, 7, 35]) if targets else None,
        num_prefix=np.array([0, 0, 2, 9]) if prefix else None,
        local_window=window,
    )


class Inputs:
    def __init__(self, device: str = "cpu") -> None:
        generator, total = torch.Generator().manual_seed(0), int(LENGTHS.sum())
        self.q, self.k, self.v = (
            torch.randn(total, 2, width, generator=generator).to(device).requires_grad_() for width in (5, 5, 7)
        )
        self.dout = torch.randn(total, 2, 7, generator=generator).to(device)
        self.bias = RelativeBias(80, 0.0)
        for table in (self.bias.position, self.bias.time):
            torch.nn.init.normal_(table, generator=generator)
        self.bias.to(device)

    def gradients(self, out: Tensor) -> list[Tensor]:
        leaves = [self.q, self.k, self.v, *self.bias.parameters()]
        grads = torch.autograd.grad(out, leaves, self.dout, allow_unused=True)
        return [out.detach(), *(grad for grad in grads if grad is not None)]


def blocked(inputs: Inputs, layout: Layout, bias: RelativeBias | None) -> list[Tensor]:
    plan = AttentionPlan(layout, torch.device("cpu"), relative_bias=bias is not None)
    return inputs.gradients(interval_attention(inputs.q, inputs.k, inputs.v, plan, bias, RULE))


def interpret() -> None:
    """Outputs and gradients of the kernels in Triton's interpreter equal those of blocked attention."""
    triton_attention = importlib.import_module("model.triton_attention")
    layouts = (
        layout_factory(),
        layout_factory(targets=True),
        layout_factory(targets=True, prefix=True, window=9),
    )
    inputs = Inputs()
    for layout in layouts:
        tiles = triton_attention.Tiles.of(layout, torch.device("cpu"), 16)
        for bias in (inputs.bias, None):
            tables = (None, None) if bias is None else (bias.position, bias.time)
            out = triton_attention.TritonAttention.apply(inputs.q, inputs.k, inputs.v, *tables, tiles, RULE.divisor)
            fused, wanted = inputs.gradients(out), blocked(inputs, layout, bias)
            assert len(fused) == len(wanted) == (4 if bias is None else 6)
            for got, want in zip(fused, wanted, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def compile_kernels() -> None:
    """The compiler takes the kernels and makes machine code for an H100, which need not be there."""
    triton, kernels = importlib.import_module("triton"), importlib.import_module("model.triton_kernels")
    compiler, backends = (importlib.import_module(f"triton.{name}") for name in ("compiler", "backends.compiler"))
    types = {
        **dict.fromkeys(("seconds", "queries", "edges"), "*i64"),
        **dict.fromkeys(("positions", "firsts", "ends", "tiles"), "*i32"),
        **dict.fromkeys(("num_heads", "key_dim", "value_dim", "num_tables", "table_size"), "i32"),
        **dict.fromkeys(("q", "k", "v", "out", "dout", "dq", "dk", "dv"), "*bf16"),
        **dict.fromkeys(("tables", "dtables"), "*fp32"),
    }
    constants = {"M": 32, "N": 32, "D": 32, "E": 16, "WITH_BIAS": True}
    for kernel in (kernels.forward_kernel, kernels.query_kernel, kernels.key_kernel):
        names = kernel.arg_names
        source = compiler.ASTSource(
            fn=kernel,
            signature={name: "constexpr" if name in constants else types[name] for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
        )
        assert triton.compile(source, target=backends.GPUTarget("cuda", 90, 32)).asm["cubin"]


if __name__ == "__main__":
    {"interpret": interpret, "compile": compile_kernels}[sys.argv[1]]()
