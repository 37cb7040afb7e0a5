#!/usr/bin/env python3
"""Writes the vectors of proofs of control beside this file.

    pip install -r requirements.txt
    python3 generate.py            writes them
    python3 generate.py --check    says which differ, and exits with 1 if any do

Tokens are signed by PyJWT and `cryptography`, certificates by `cryptography`:
nothing of Blindbook's own code takes part. Keys are fixed and signatures
deterministic (RFC 6979), so nothing is random. `expect` is `ok`, or the name of
the fault."""

import json
import sys
from pathlib import Path

import identities
import passports
import tokens

FOLDER = Path(__file__).resolve().parent
TOPICS = {"tokens": tokens.vectors, "passports": passports.vectors, "identities": identities.vectors}


def main():
    differing = []
    for topic, make in TOPICS.items():
        file = FOLDER / f"{topic}.json"
        vectors = make()
        names = [case["name"] for case in vectors["cases"]]
        assert len(names) == len(set(names)), "two cases have one name"
        text = json.dumps(vectors, indent=1) + "\n"
        if "--check" in sys.argv[1:]:
            if not file.exists() or file.read_text() != text:
                differing.append(file.name)
        else:
            file.write_text(text)
        good = sum(case["expect"] == "ok" for case in vectors["cases"])
        print(f"{file.name}: {good} good, {len(names) - good} bad")
    for name in differing:
        print(f"{name} is not what generate.py writes", file=sys.stderr)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
