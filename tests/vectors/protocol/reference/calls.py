"""Requests as a server takes them, answers as a client does: docs/protocol.md,
"Calls" and "Client checks"."""

from . import check, protobuf as pb, voprf
from .formats import verify_bucket

ELEMENT_BATCHES = 2, 8, 32, 128, 512
BUCKET_BATCHES = 1, 4, 16, 64, 256
MAX_BUCKETS = 16_384


def encode_evaluate(epoch, blinded):
    return pb.number(1, epoch) + pb.data(2, b"".join(blinded))


def read_evaluate(message):
    schema = {1: ("epoch", "u32"), 2: ("blinded_elements", "bytes")}
    request = pb.decode(message, schema, "EvaluateRequest")
    elements = request["blinded_elements"]
    check(request["epoch"] >= 1, "epoch")
    check(len(elements) % 32 == 0, "blinded_elements")
    check(len(elements) // 32 in ELEMENT_BATCHES, "blinded_elements")
    return request["epoch"], [elements[at : at + 32] for at in range(0, len(elements), 32)]


def encode_evaluations(evaluations):
    """Of (epoch, elements, proof)."""
    return b"".join(
        pb.message(1, pb.number(1, epoch) + pb.data(2, b"".join(elements)) + pb.data(3, proof))
        for epoch, elements, proof in evaluations
    )


def read_evaluations(message, asked):
    """Checks 19 and 20: the answer to so many elements."""
    schema = {
        1: ("evaluations", [{1: ("epoch", "u32"), 2: ("elements", "bytes"), 3: ("proof", "bytes")}])
    }
    evaluations = pb.decode(message, schema, "EvaluateResponse")["evaluations"]
    check(1 <= len(evaluations) <= 2, "evaluations")
    epochs = [evaluation["epoch"] for evaluation in evaluations]
    check(epochs == sorted(set(epochs)), "evaluations")
    read = []
    for evaluation in evaluations:
        elements = evaluation["elements"]
        check(len(elements) == 32 * asked, "evaluations.evaluated_elements")
        check(evaluation["epoch"] >= 1, "evaluations.epoch")
        check(len(evaluation["proof"]) == 64, "evaluations.proof")
        split = [elements[at : at + 32] for at in range(0, len(elements), 32)]
        read.append((evaluation["epoch"], split, evaluation["proof"]))
    return read


def encode_fetch(epoch, directory_prefix_bits, prefix_bits, prefixes):
    return (
        pb.number(1, epoch)
        + pb.number(2, directory_prefix_bits)
        + pb.number(3, prefix_bits)
        + pb.packed_fixed32(4, prefixes)
    )


def read_fetch(message):
    schema = {1: ("epoch", "u32"), 2: ("directory_prefix_bits", "u32"),
              3: ("prefix_bits", "u32"), 4: ("prefixes", ["f32"])}  # fmt: skip
    request = pb.decode(message, schema, "FetchBucketsRequest")
    check(request["epoch"] >= 1, "epoch")
    deep, bits = request["directory_prefix_bits"], request["prefix_bits"]
    check(deep <= 32, "directory_prefix_bits")
    check(bits <= deep, "prefix_bits")
    check(len(request["prefixes"]) in BUCKET_BATCHES, "prefixes")
    check(all(prefix < 1 << bits for prefix in request["prefixes"]), "prefixes")
    check(len(request["prefixes"]) << (deep - bits) <= MAX_BUCKETS, "prefix_bits")
    return beneath(request["prefixes"], bits, deep)


def beneath(prefixes, bits, deep):
    """The numbers of the buckets beneath prefixes, in the order of the answer."""
    more = deep - bits
    return [prefix << more | low for prefix in prefixes for low in range(1 << more)]


def outputs(message, inputs, blinds, blinded, keys):
    """Checks 19, 20 and 27, with the keys of the parameters by epoch; the outputs of
    the inputs by epoch."""
    results = {}
    for epoch, elements, proof in read_evaluations(message, len(blinded)):
        check(epoch in keys, "epoch")
        results[epoch] = voprf.finalize(inputs, blinds, blinded, elements, proof, keys[epoch])
    return results


def take_buckets(buckets, asked, identity, prefix_bits, epochs):
    """Checks 22, 23, 25 and 26."""
    for bucket, number in zip(buckets, asked):
        check(bucket.number == number, "order")
        verify_bucket(bucket, identity, prefix_bits)
    check(len(buckets) == len(asked), "count")
    check(all(bucket.epoch in epochs for bucket in buckets), "epoch")
