"""A writer that is killed: tells each offset once the append that gave it has returned."""

from __future__ import annotations

import os
import random
import sys

from crashhelp import config, payload

import aof2


def main(root: str, seed: int, how: str) -> None:
    chance = random.Random(seed)
    durable_share = chance.choice([0.0, 0.01, 0.2])
    manager = aof2.open(root, config=config(interval_s=chance.choice([0.001, 0.05, 5])))
    log = manager.stream("a")
    os.write(1, b"open %d\n" % log.next_offset)
    limit = 10**9 if how == "append" else log.next_offset + chance.randrange(1, 2000)
    while (n := log.next_offset) < limit:
        draw = chance.random()
        durable = chance.random() < durable_share
        if draw < 0.6:
            log.append(payload(n), durable=durable)
        elif draw < 0.99:
            log.append_many(
                [payload(k) for k in range(n, n + chance.randrange(1, 9))], durable=durable
            )
        else:
            log.extend(payload(k) for k in range(n, n + chance.randrange(1, 300)))
        if chance.random() < 0.001:
            log.seal()
        os.write(1, b"%d\n" % log.next_offset)
    os.write(1, b"closing\n")
    manager.close()
    os.write(1, b"closed\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
