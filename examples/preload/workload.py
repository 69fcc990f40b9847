#!/usr/bin/env python3
"""Builds as many MiB of objects as its argument says, changes and reads them in random order, and checks them.

Prints sums that are the same in every run with the same arguments, and on standard error the seconds and the memory
that it took.
"""
import gc, random, sys, time, zlib

mib = int(sys.argv[1]) if len(sys.argv) > 1 else 64
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else mib * 400
rng = random.Random(1)
began = time.monotonic()


def text_of(number):
    return f"user-{number}: visits {number % 977}, last page /items/{number * 7919 % 10007}"


# A third are objects of pymalloc, a third bytearrays, a third a few large lists and strings.
users = {number: [text_of(number), number, {"visits": number % 977}] for number in range(mib * 600)}
buffers = [bytearray(text_of(number).encode() * 2000) for number in range(mib * 3)]
numbers = [number * 3 for number in range(mib * 14000)]
text = "".join(text_of(number) for number in range(mib * 600))
built = time.monotonic()

total = 0
for turn in range(rounds):
    number = rng.randrange(len(users))
    user = users[number]
    assert user[0] == text_of(number), f"user {number} is wrong"
    user[1] += 1
    total += user[1] + user[2]["visits"]
    if turn % 8 == 0:
        buffer = buffers[rng.randrange(len(buffers))]
        at = rng.randrange(len(buffer))
        buffer[at] = (buffer[at] + turn) & 255
        total += buffer[at]
    total += numbers[rng.randrange(len(numbers))]
    if turn % (rounds // 4) == 0:
        for number in range(turn % 7, len(users), 7):
            users[number] = [text_of(number), number, {"visits": number % 977}]
        buffers[turn % len(buffers)].extend(b"more" * 100000)
        gc.collect()
changed = time.monotonic()

check = zlib.crc32(text.encode())
for buffer in buffers:
    check = zlib.crc32(buffer, check)
print(total, sum(numbers), sum(user[1] for user in users.values()), f"{check:08x}")
ended = time.monotonic()
with open("/proc/self/status") as status:  # ru_maxrss would have what the program had before exec.
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) >> 10
print(f"built in {built - began:.2f} s, changed in {changed - built:.2f}, read in {ended - changed:.2f}; most memory"
      f" {peak} MiB", file=sys.stderr)
