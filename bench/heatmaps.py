"""Heatmaps drawn and read for a whole batch at once, against the plain loop over films.

    python -m bench.heatmaps [--batch 8] [--repeats 5] [--threads 1]

Both sides run in turn in the same process and have to agree; the table shows the best time of each, which a
busy machine disturbs least, and the ratio. Exit status 1 where a ratio is below what the project promises.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from bench.timing import times_in_turn
from stages.core.model.codecs import GaussianHeatmap
from stages.spine.reference import decode_all_pairs, encode_film_by_film

POINTS, SIZE = 68, (512, 256)
CODEC = GaussianHeatmap(sigma=7.5, stride=1, window=15, sharpness=10.0)
PROMISED = {"encode": 20.0, "decode": 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor([SIZE[1], SIZE[0]], dtype=torch.float32)
    points = torch.rand((arguments.batch, POINTS, 2), generator=generator) * (extent - 40) + 20
    maps = CODEC.encode(points, SIZE)
    buffer = torch.empty_like(maps)

    def plain_encode() -> Tensor:
        return encode_film_by_film(points, SIZE, CODEC.sigma)

    contests: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "encode": (plain_encode, lambda: CODEC.encode(points, SIZE, out=buffer)),
        "encode, fresh memory": (plain_encode, lambda: CODEC.encode(points, SIZE)),
        "decode": (
            lambda: decode_all_pairs(maps, CODEC.window, CODEC.sharpness),
            lambda: CODEC.locate(maps),
        ),
    }
    print(f"{arguments.batch} films, {POINTS} points, {SIZE[0]} x {SIZE[1]} px, threads: {arguments.threads}")
    print(f"{'':22}{'film by film':>14}{'at once':>12}{'ratio':>8}{'promised':>10}{'largest difference':>20}")
    slow = []
    for name, (plain, batched) in contests.items():
        difference = float((plain() - batched()).abs().max())
        before, after = times_in_turn(plain, batched, arguments.repeats)
        ratio, promise = before / after, PROMISED.get(name)
        print(
            f"{name:22}{before * 1e3:11.1f} ms{after * 1e3:9.1f} ms{ratio:8.1f}"
            f"{'-' if promise is None else f'{promise:.0f}':>10}{difference:20.1e}"
        )
        if ratio < (promise or 0) or difference > 1e-4:
            slow.append(name)
    if slow:
        sys.exit(f"{', '.join(slow)}: slower than promised, or other values than the plain loop")


if __name__ == "__main__":
    main()
