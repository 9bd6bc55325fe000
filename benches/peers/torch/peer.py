"""The works of `cargo xtask bench peers` in PyTorch: one line in, one line out (see ../README.md).

peer.py           serves works from standard input
peer.py save FILE writes a model's weights
peer.py first FILE loads them and draws the first tokens: what `start` times, from the process's birth to its end
"""

import json
import os
import sys
import time

VOCAB, WIDTH, LAYERS, HEADS, FFN, LEN = 30000, 768, 6, 8, 2048, 128
MASK = VOCAB - 1

import torch
import torch.nn as nn
import torch.nn.functional as F

THREADS = int(os.environ.get("GALATEA_THREADS", os.cpu_count() or 1))
torch.set_num_threads(THREADS)


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
        noisy = torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise
        return F.mse_loss(self.backbone(noisy), noise)


def autocast(dtype):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16")


def step(batch, dtype, variant):
    """Forward, backward and the fused AdamW."""
    model = Seed().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    loss_of = torch.compile(model.loss) if variant == "compile" else model.loss
    ids = torch.randint(0, MASK, (batch, LEN))

    def run():
        begin = time.perf_counter()
        beta = torch.rand(batch, 1, 1) * 0.98 + 0.01
        with autocast(dtype):
            loss = loss_of(ids, beta)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        assert loss.isfinite().item(), "the loss is not finite"
        return time.perf_counter() - begin

    return run, 3


def draw(logits):
    """One id a row by the inverse of the distribution function, and how likely it was."""
    p = torch.softmax(logits.float(), -1)
    cdf = p.cumsum(-1)
    u = torch.rand(len(p), 1) * cdf[:, -1:]
    ids = torch.searchsorted(cdf, u).clamp_(max=MASK - 1)
    return ids.squeeze(1), p.gather(1, ids).squeeze(1)


def sample(length, steps, dtype, variant):
    """Masked diffusion of one text: the backbone on all rows, the head on the masked ones, the most confident stay."""
    model = Seed().eval()
    if variant.startswith("weights"):
        model = model.to(torch.bfloat16)
    body = torch.compile(model.backbone) if variant.endswith("compile") else model.backbone
    cast = autocast("f32" if variant.startswith("weights") else dtype)

    @torch.inference_mode()
    def run():
        begin = time.perf_counter()
        ids = torch.full((1, length), MASK)
        for i in range(steps):
            masked = (ids[0] == MASK).nonzero().squeeze(1)
            with cast:
                h = body(model.embed(ids))[0]
                logits = model.lm_head(h[masked])[:, :MASK]
            drawn, confidence = draw(logits)
            keep = confidence.topk(length * (i + 1) // steps - length * i // steps).indices
            ids[0, masked[keep]] = drawn[keep]
        assert not (ids == MASK).any(), "a position was left masked"
        return time.perf_counter() - begin

    return run, 2


def gemm(m, k, n, dtype):
    """As many products as take 20 ms; the mean of one."""
    dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
    a, b, c = (torch.randn(*shape).to(dtype) for shape in ((m, k), (k, n), (m, n)))

    def timed(count):
        begin = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b, out=c)
        return time.perf_counter() - begin

    timed(2)
    count = max(1, int(0.02 / timed(1)) + 1)
    return lambda: timed(count) / count, 1


VARIANTS = {
    "step": {"f32": ("eager", "compile"), "bf16": ("eager", "compile")},
    "sample": {"f32": ("eager", "compile"), "bf16": ("eager", "compile", "weights", "weights-compile")},
}


def set_up(line):
    name, *pairs = line.split()
    values = dict(pair.split("=", 1) for pair in pairs)
    dtype, variant = values.get("dtype", "f32"), values.get("variant", "eager")
    if name in VARIANTS and variant not in VARIANTS[name].get(dtype, ()):
        raise ValueError(f"{name} in {dtype} has no variant {variant}")
    if name == "step":
        run, warm = step(int(values["batch"]), dtype, variant)
    elif name == "sample":
        run, warm = sample(int(values["len"]), int(values["steps"]), dtype, variant)
    elif name == "gemm":
        run, warm = gemm(int(values["m"]), int(values["k"]), int(values["n"]), dtype)
    else:
        raise ValueError(f"there is no work `{name}`")
    for _ in range(warm):
        run()
    return run


def peak_rss_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def serve():
    # What a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"ready": f"torch {torch.__version__}", "threads": torch.get_num_threads()}), file=answers)
    works = {}
    for line in map(str.strip, sys.stdin):
        try:
            if line == "rss":
                answer = {"mib": round(peak_rss_mib(), 1)}
            else:
                if line not in works:
                    # Variants of one work live together; another work must not find their memory taken.
                    works = {known: run for known, run in works.items() if base(known) == base(line)}
                    works[line] = set_up(line)
                answer = {"ms": round(works[line]() * 1e3, 4)}
        except Exception as error:
            answer = {"unsupported": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps({"work": line, **answer}), file=answers)


def base(line):
    return " ".join(word for word in line.split() if not word.startswith("variant="))


def first(path):
    with torch.device("meta"):
        model = Seed().eval()
    model.load_state_dict(torch.load(path, mmap=True, weights_only=True), assign=True)
    with torch.inference_mode():
        ids = torch.full((1, LEN), MASK)
        logits = model.lm_head(model.backbone(model.embed(ids))[0])[:, :MASK]
        drawn, confidence = draw(logits)
        place = confidence.argmax()
        print(json.dumps({"position": place.item(), "token": drawn[place].item()}))


def main(arguments):
    if not arguments:
        return serve()
    if arguments[0] == "save" and len(arguments) == 2:
        return torch.save(Seed().state_dict(), arguments[1])
    if arguments[0] == "first" and len(arguments) == 2:
        return first(arguments[1])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
