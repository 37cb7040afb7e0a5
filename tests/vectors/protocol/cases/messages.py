"""messages.json: requests as a server takes them, answers as a client does."""

from blake3 import blake3

from reference import calls, protobuf as pb
from reference.formats import filler

from . import refusal


def _given(head, label=None, count=0, tail=b""):
    """A message by rule, and its bytes."""
    whole = head + (filler(label, count) if label else b"") + tail
    middle = {"filler": label, "bytes": count} if label else None
    given = {"head": head, "middle": middle, "tail": tail, "blake3": blake3(whole).digest()}
    return given | {"bytes": len(whole)}, whole


def _length(field, count):
    return pb.varint(field << 3 | pb.BYTES) + pb.varint(count)


def message_cases():
    good, bad = [], []

    for elements in calls.ELEMENT_BATCHES:
        label, count = f"{elements} elements", 32 * elements
        given, whole = _given(pb.number(1, 1) + _length(2, count), label, count)
        split = [filler(label, count)[at : at + 32] for at in range(0, count, 32)]
        assert whole == calls.encode_evaluate(1, split)
        assert calls.read_evaluate(whole) == (1, split)
        good.append({"type": "EvaluateRequest", "epoch": 1, "elements": elements, "message": given})

    for epochs in ([1], [1, 2]):
        for elements in calls.ELEMENT_BATCHES:
            count = 32 * elements
            parts = [
                (epoch, _filled(f"{elements} under {epoch}", count), filler(f"proof {epoch}", 64))
                for epoch in epochs
            ]
            whole = calls.encode_evaluations(parts)
            assert calls.read_evaluations(whole, elements) == parts
            good.append(
                {
                    "type": "EvaluateResponse",
                    "elements": elements,
                    "evaluations": [
                        {
                            "epoch": epoch,
                            "evaluated_elements": {
                                "filler": f"{elements} under {epoch}",
                                "bytes": count,
                            },
                            "proof": proof,
                        }
                        for epoch, _, proof in parts
                    ],
                    "message": {"bytes": len(whole), "blake3": blake3(whole).digest()},
                }
            )

    for batch, bits, deep in [(b, 17, 17) for b in calls.BUCKET_BATCHES] + [
        (1, 0, 0), (4, 2, 4), (16, 17, 27), (256, 26, 32), (1, 32, 32), (1, 0, 14),
    ]:  # fmt: skip
        raw = filler(f"prefixes {batch} {bits} {deep}", 4 * batch)
        prefixes = [int.from_bytes(raw[at : at + 4], "big") >> (32 - bits) if bits else 0
                    for at in range(0, 4 * batch, 4)]  # fmt: skip
        whole = calls.encode_fetch(1, deep, bits, prefixes)
        numbers = calls.read_fetch(whole)
        listed = b"".join(number.to_bytes(4, "big") for number in numbers)
        good.append(
            {
                "type": "FetchBucketsRequest",
                "epoch": 1,
                "directory_prefix_bits": deep,
                "prefix_bits": bits,
                "prefixes": prefixes,
                "buckets": len(numbers),
                "numbers_blake3": blake3(listed).digest(),
                "message": _given(whole)[0],
            }
        )

    def refuse(kind, name, read, given, whole, **more):
        found = refusal(read, whole)
        case = {"name": f"bad_{name}", "type": kind} | more
        bad.append(case | {"message": given, "refused": found})

    def refuse_evaluate(name, epoch, count):
        given, whole = _given(pb.number(1, epoch) + _length(2, count), "elements", count)
        refuse("EvaluateRequest", name, calls.read_evaluate, given, whole)

    refuse_evaluate("epoch_0", 0, 64)
    refuse_evaluate("elements_missing", 1, 0)
    for count in (1, 3, 4, 511, 513):
        refuse_evaluate(f"elements_{count}", 1, 32 * count)
    refuse_evaluate("elements_cut_short", 1, 63)
    refuse_evaluate("elements_trailing", 1, 65)

    def refuse_fetch(name, *fields):
        given, whole = _given(calls.encode_fetch(*fields))
        refuse("FetchBucketsRequest", name, calls.read_fetch, given, whole)

    refuse_fetch("epoch_0", 0, 17, 17, [1])
    refuse_fetch("directory_prefix_bits", 1, 33, 17, [1])
    refuse_fetch("prefix_bits", 1, 16, 17, [1])
    for count in (0, 2, 3, 5, 255, 257):
        refuse_fetch(f"prefixes_{count}", 1, 17, 17, [1] * count)
    refuse_fetch("prefix_too_long", 1, 17, 17, [1, 2, 3, 1 << 17])
    refuse_fetch("prefix_of_no_bits", 1, 14, 0, [1])
    refuse_fetch("too_many_buckets", 1, 15, 0, [0])
    refuse_fetch("too_many_buckets_in_all", 1, 32, 25, [0] * 256)

    def refuse_answer(name, *parts, asked=2):
        given, whole = _given(calls.encode_evaluations(parts))
        read = lambda message: calls.read_evaluations(message, asked)
        read.__name__ = "read_evaluations"
        refuse("EvaluateResponse", name, read, given, whole, elements=asked)

    two, proof = _filled("two", 64), filler("proof", 64)
    refuse_answer("evaluations_missing")
    refuse_answer("evaluations_three", (1, two, proof), (2, two, proof), (3, two, proof))
    refuse_answer("evaluations_descending", (2, two, proof), (1, two, proof))
    refuse_answer("evaluations_equal", (1, two, proof), (1, two, proof))
    refuse_answer("evaluated_elements_missing", (1, two[:1], proof))
    refuse_answer("evaluated_elements_surplus", (1, two, proof), asked=1)
    refuse_answer("evaluated_elements_cut_short", (1, [two[0], two[1][:31]], proof))
    refuse_answer("evaluation_epoch_0", (0, two, proof))
    refuse_answer("proof_short", (1, two, proof[:63]))
    refuse_answer("proof_long", (1, two, proof + b"\0"))
    return good, bad


def _filled(label, count):
    data = filler(label, count)
    return [data[at : at + 32] for at in range(0, count, 32)]
