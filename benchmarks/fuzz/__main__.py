"""Sends 50,000 mutated requests to a handler, and prints what it made of them: ``make fuzz``.

It fails where a reply was a 5xx, an exception left the handler, a refusal took a second, or memory
was not given back.
"""

from __future__ import annotations

import logging
import sys
import time

from tests.robustness.fuzzing import MOST_MEGABYTES, fuzz, resident_megabytes


def main(count: int) -> int:
    logging.disable()
    fuzz(200)  # what is loaded at first use
    before, start = resident_megabytes(), time.monotonic()
    figures = fuzz(count)
    grown = resident_megabytes() - before
    print(f"{count} requests in {time.monotonic() - start:.0f} s")
    for code, times in figures.codes.most_common():
        print(f"  {code:26} {times}")
    print(f"slowest refusal {figures.slowest_refusal[0]:.3f} s ({figures.slowest_refusal[1]})")
    print(f"slowest answer  {figures.slowest_answer[0]:.3f} s ({figures.slowest_answer[1]})")
    print(f"memory grown by {grown:.1f} MB, at most {MOST_MEGABYTES:.0f}")
    if grown > MOST_MEGABYTES:
        figures.failures.append(f"memory grew by {grown:.1f} MB")
    for failure in figures.failures[:50]:
        print(f"FAILED {failure}")
    print("failed" if figures.failures else "passed")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
