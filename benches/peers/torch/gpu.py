"""The rows of `row gpu` in PyTorch on the same GPU: one JSON object a row on standard output.

gpu.py [RUNS] [ONLY]    the rows whose names contain ONLY

Products go through cuBLASLt and attention through whatever PyTorch thinks fastest, so these are the yardsticks too. Kernels are timed
by CUDA events inside a graph where PyTorch can capture one, whole works by the clock of the host.
"""

import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB, WIDTH, LAYERS, HEADS, FFN, LEN = 30000, 768, 6, 8, 2048, 128
MASK = VOCAB - 1
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
ONLY = sys.argv[2] if len(sys.argv) > 2 else ""
GPU = "cuda"


def say(name, times):
    times = sorted(times)
    print(json.dumps({"name": name, "median_ms": times[len(times) // 2], "min_ms": times[0]}), flush=True)


def kernel(name, run):
    """Times one call by events, replayed from a graph."""
    if ONLY not in name:
        return
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
    for _ in range(3):
        graph.replay()
    for i, event in enumerate(events):
        event.record()
        if i < RUNS:
            graph.replay()
    torch.cuda.synchronize()
    say(name, [a.elapsed_time(b) for a, b in zip(events, events[1:])])


def work(name, run):
    """Times one call by the clock, everything included."""
    if ONLY not in name:
        return
    for _ in range(5):
        run()
    times = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    say(name, times)


def half(*dims):
    return torch.randn(dims, device=GPU, dtype=torch.bfloat16)


def kernels():
    layers = [(2304, 768), (768, 768), (2048, 768), (768, 2048)]
    for m, n, k in [(4096, 4096, 4096)] + [(m, n, k) for m in (256, 8192) for n, k in layers]:
        x, w, dy = half(m, k), half(n, k), half(m, n)
        kernel(f"linear/{m}x{n}x{k}/bf16", lambda: F.linear(x, w))
        kernel(f"linear_dx/{m}x{n}x{k}/bf16", lambda: dy @ w)
        kernel(f"linear_dw/{m}x{n}x{k}/bf16", lambda: dy.t() @ x)
    x, w = (torch.randn(4096, 4096, device=GPU) for _ in range(2))
    kernel("linear/4096x4096x4096/f32", lambda: F.linear(x, w))
    for b, l, h, d in [(64, 128, 8, 96), (16, 1024, 16, 64), (16, 1024, 8, 128), (4, 4096, 8, 128)]:
        q, k, v = (half(b, h, l, d) for _ in range(3))
        kernel(f"attention/{b}x{l}x{h}x{d}/bf16", lambda: F.scaled_dot_product_attention(q, k, v))
    x = half(8192, WIDTH)
    h, gain, shift = half(8192, WIDTH), half(WIDTH), half(WIDTH)
    kernel(f"add_norm/8192x{WIDTH}/bf16", lambda: F.layer_norm(x + h, (WIDTH,), gain, shift))


class Seed(nn.Module):
    """The seed's model: an encoder with an embedding before it and a head behind it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FFN, dropout=0.1, batch_first=True)
        self.backbone = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.lm_head = nn.Linear(WIDTH, VOCAB)

    def loss(self, ids, beta):
        x = self.embed(ids)
        noise = torch.randn_like(x)
        return F.mse_loss(self.backbone(torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise), noise)


def step(batch, dtype, compiled):
    model = Seed().to(GPU).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    loss_of = torch.compile(model.loss) if compiled else model.loss
    ids = torch.randint(0, MASK, (batch, LEN), device=GPU)

    def run():
        beta = torch.rand(batch, 1, 1, device=GPU) * 0.98 + 0.01
        with torch.autocast(GPU, dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = loss_of(ids, beta)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    work(f"step/{batch}x{LEN}/{dtype}{' compiled' if compiled else ''}", run)


@torch.no_grad()
def sample(batch, compiled, steps=32):
    model = Seed().to(GPU, torch.bfloat16).eval()
    body = lambda ids: model.backbone(model.embed(ids))
    body = torch.compile(body, mode="reduce-overhead") if compiled else body

    def run():
        ids = torch.full((batch, LEN), MASK, device=GPU)
        for s in range(steps):
            masked = ids == MASK
            logits = model.lm_head(body(ids)[masked]).float()
            logits[:, MASK] = -torch.inf
            p = torch.softmax(logits, -1)
            drawn = torch.multinomial(p, 1)
            confidence = torch.full((batch, LEN), -1.0, device=GPU)
            confidence[masked] = p.gather(1, drawn).squeeze(1)
            tokens = torch.zeros_like(ids)
            tokens[masked] = drawn.squeeze(1)
            count = LEN * (s + 1) // steps - LEN * s // steps
            top = confidence.topk(count, dim=1).indices
            ids.scatter_(1, top, tokens.gather(1, top))
        ids.cpu()

    work(f"sample/{batch}x{LEN}x{steps}/bf16{' compiled' if compiled else ''}", run)


if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU")
torch.backends.cuda.matmul.allow_tf32 = False
kernels()
for dtype in ("bf16", "f32"):
    for batch in (2, 64):
        for compiled in (False, True):
            step(batch, dtype, compiled)
for batch in (1, 64):
    for compiled in (False, True):
        sample(batch, compiled)
