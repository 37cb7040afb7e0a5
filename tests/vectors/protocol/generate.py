#!/usr/bin/env python3
"""Writes the vectors of docs/protocol.md beside this file.

    python3 generate.py            writes them
    python3 generate.py --check    says which differ, and exits with 1 if any do

Needs the packages of requirements.txt. Everything is made by `reference`, an
implementation of its own; nothing is random."""

import json
import sys
from pathlib import Path

from cases import hexed, lookups, messages, names, sealed, signed
from reference import voprf

FOLDER = Path(__file__).resolve().parent

TOPICS = {
    "identifiers": names.identifier_cases,
    "keys": names.key_cases,
    "placement": names.placement_cases,
    "mapping": sealed.mapping_cases,
    "entry": sealed.entry_cases,
    "bucket": sealed.bucket_cases,
    "parameters": signed.parameters_cases,
    "providers": signed.provider_cases,
    "messages": messages.message_cases,
    "lookup": lookups.lookup_cases,
}


def hold_to_rfc_9497():
    """The reference's OPRF gives the vectors of RFC 9497, A.1.2."""
    file = json.loads((FOLDER.parent / "oprf" / "rfc9497_a1_2_voprf.json").read_text())
    one, many = bytes.fromhex, lambda values: [bytes.fromhex(value) for value in values]
    key = voprf.derive_key(one(file["seed"]), one(file["key_info"]))
    assert voprf.public_key(key) == one(file["public_key"])
    for vector in file["vectors"]:
        inputs, blinds = many(vector["inputs"]), list(map(voprf.scalar, many(vector["blinds"])))
        blinded = [voprf.blind(*pair) for pair in zip(inputs, blinds)]
        assert blinded == many(vector["blinded_elements"])
        nonce = voprf.scalar(one(vector["proof_random_scalar"]))
        evaluated, proof = voprf.evaluate(key, blinded, nonce)
        assert evaluated == many(vector["evaluated_elements"])
        assert proof == one(vector["proof"])
        arguments = inputs, blinds, blinded, evaluated, proof, voprf.public_key(key)
        assert voprf.finalize(*arguments) == many(vector["outputs"])
        assert [voprf.output(key, text) for text in inputs] == many(vector["outputs"])


def main():
    hold_to_rfc_9497()
    differing = []
    for topic, cases in TOPICS.items():
        good, bad = cases()
        assert good and bad, topic
        file = FOLDER / f"{topic}.json"
        text = json.dumps(hexed({"good": good, "bad": bad}), indent=1) + "\n"
        if "--check" in sys.argv[1:]:
            if not file.exists() or file.read_text() != text:
                differing.append(file.name)
        else:
            file.write_text(text)
        print(f"{file.name}: {len(good)} good, {len(bad)} bad")
    for name in differing:
        print(f"{name} is not what generate.py writes", file=sys.stderr)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
