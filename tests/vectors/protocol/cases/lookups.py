"""lookup.json: whole lookups, from the identifier to what was found."""

from dataclasses import replace

from reference import Refused, calls, edwards, voprf
from reference.formats import Bucket, EntryKeys, Mapping, bucket_number, placement

from . import DIRECTORY, PROVIDERS, STRANGER, filled, filler, mapping_fields, scalar, scalar_bytes

TEL, ACCT = "tel:+14155550100", "acct:Alice@wa.example"
MAIL = "mailto:jos\u00e9@xn--bcher-kva.example"
KEYS = {name: edwards.public_key(seed) for name, seed in PROVIDERS.items()}
ALICE = Mapping("wa.example", "alice", False, 1_700_000_000, 0, 86_400)
SHOP = Mapping("chat.example", "caf\u00e9", True, 1_700_000_001, 1_800_000_000, 3_600)
CIRCLE = filler("circle secret", 32)


class Lookup:
    """One batch. `finds` are (input index, place of the prefix, SII)."""

    def __init__(self, name, inputs, places, finds, prefix_bits=17, sent=17, epochs=(1,)):
        self.name, self.inputs, self.finds = name, inputs, finds
        self.placements = places
        self.prefix_bits, self.sent, self.epochs = prefix_bits, sent, epochs
        self.blinds = [scalar(f"blind {n} of {name}") for n in range(len(inputs))]
        self.blinded = [voprf.blind(*pair) for pair in zip(inputs, self.blinds)]
        self.nonces = {epoch: scalar(f"nonce {epoch} of {name}") for epoch in epochs}
        self.evaluations = [
            (epoch, *voprf.evaluate(DIRECTORY.keys[epoch], self.blinded, self.nonces[epoch]))
            for epoch in epochs
        ]
        self.prefixes = [bucket_number(place, sent) for place in places]
        self.numbers = calls.beneath(self.prefixes, sent, prefix_bits)
        self.slots = {number: {} for number in self.numbers}
        self.epoch_of = dict.fromkeys(self.numbers, epochs[-1])
        self.version_of = dict.fromkeys(self.numbers, 1)
        self.buckets = None

    def number(self, find):
        return bucket_number(self.placements[self.finds[find][1]], self.prefix_bits)

    def keys(self, find):
        epoch = self.epoch_of[self.number(find)]
        return EntryKeys(voprf.output(DIRECTORY.keys[epoch], self.inputs[self.finds[find][0]]))

    def seal(self, find, n, slot, mapping, key=None, alter=None):
        """Puts a mapping of the SII into its bucket, one bit altered if so said."""
        sii, number = self.finds[find][2], self.number(find)
        signed = mapping.signed(sii, key or PROVIDERS[mapping.provider])
        nonce = filler(f"nonce {slot} of {self.name}", 12)
        epoch = self.epoch_of[number]
        entry = self.keys(find).seal(DIRECTORY.id, epoch, n, signed.plaintext(), nonce)
        if alter is not None:
            entry = entry[:alter] + bytes([entry[alter] ^ 1]) + entry[alter + 1 :]
        self.slots[number][slot] = entry
        return self

    def publish(self):
        self.buckets = []
        for at, number in enumerate(self.numbers):
            label = f"bucket {number} of {self.name}"
            entries, rule = filled(label, self.slots[number])
            bucket = Bucket(self.epoch_of[number], number, self.version_of[number], entries)
            self.buckets.append((bucket.signed(DIRECTORY.seed, self.prefix_bits), rule))
        return self

    def case(self):
        epoch = self.epochs[-1]
        return {
            "name": self.name,
            "identity_seed": DIRECTORY.seed,
            "identity_public_key": DIRECTORY.public_key,
            "directory_id": DIRECTORY.id,
            "epochs": [
                {"epoch": epoch, "seed": DIRECTORY.seeds[epoch],
                 "public_key": DIRECTORY.public_keys[epoch],
                 "proof_nonce": self.nonces[epoch].to_bytes(32, "little")}
                for epoch in self.epochs
            ],
            "providers": [
                {"provider": name, "seed": seed, "public_key": KEYS[name]}
                for name, seed in PROVIDERS.items()
            ],
            "prefix_bits": self.prefix_bits,
            "sent_prefix_bits": self.sent,
            "inputs": self.inputs,
            "blinds": [blind.to_bytes(32, "little") for blind in self.blinds],
            "placements": self.placements,
            "evaluate_request": calls.encode_evaluate(epoch, self.blinded),
            "evaluate_response": calls.encode_evaluations(self.evaluations),
            "fetch_request": calls.encode_fetch(epoch, self.prefix_bits, self.sent, self.prefixes),
            "buckets": [bucket_fields(bucket, rule) for bucket, rule in self.buckets],
            "finds": [
                {"input": element, "place": place, "sii": sii} for element, place, sii in self.finds
            ],
        }  # fmt: skip


def bucket_fields(bucket, rule):
    return {
        "epoch": bucket.epoch,
        "number": bucket.number,
        "version": bucket.version,
        "entries": rule,
        "signature": bucket.signature,
    }


def look_up(lookup, response, buckets):
    """What a client finds in these answers to this question."""
    keys = {epoch: DIRECTORY.public_keys[epoch] for epoch in lookup.epochs}
    outputs = calls.outputs(response, lookup.inputs, lookup.blinds, lookup.blinded, keys)
    numbers, bits = lookup.numbers, lookup.prefix_bits
    calls.take_buckets(buckets, numbers, DIRECTORY.public_key, bits, outputs)
    results = []
    for element, place, sii in lookup.finds:
        number = bucket_number(lookup.placements[place], bits)
        bucket = buckets[numbers.index(number)]
        y = outputs[bucket.epoch][element]
        mappings, damaged = EntryKeys(y).open_all(DIRECTORY.id, bucket.epoch, bucket.entries)
        for mapping in mappings:
            mapping.verify(sii, KEYS[mapping.provider])
        since = [mapping.default_since for mapping in mappings]
        first = since.index(max(since)) if since else None
        results.append(
            {
                "output": y,
                "damaged": damaged,
                "mappings": [
                    mapping_fields(mapping)
                    | {"signature": mapping.signature, "default": n == first}
                    for n, mapping in enumerate(mappings)
                ],
            }
        )
    return results


def single(name, **options):
    inputs = [TEL.encode(), filler("second of " + name, 32)]
    return Lookup(name, inputs, [placement(TEL)], [(0, 0, TEL)], **options)


def lookup_cases():
    hit = single("hit").seal(0, 0, 200, ALICE).seal(0, 1, 3, SHOP)
    rotation = Lookup(
        "rotation",
        # Two elements for each of four places, shuffled: the third place is a decoy.
        [filler("second of one", 32), ACCT.encode(), filler("decoy's input", 32), TEL.encode(),
         filler("second of two", 32), filler("second of decoy", 32), MAIL.encode(),
         filler("second of three", 32)],
        [placement(MAIL), placement(TEL), filler("decoy's placement", 32), placement(ACCT)],
        [(3, 1, TEL), (6, 0, MAIL), (1, 3, ACCT)],
        epochs=(1, 2),
    )  # fmt: skip
    # The re-sealing has reached two of the buckets.
    rotation.epoch_of[rotation.number(0)] = 1
    rotation.epoch_of[rotation.number(2)] = 1
    rotation.version_of[rotation.number(1)] = 17
    rotation.seal(0, 0, 0, ALICE).seal(1, 0, 255, SHOP).seal(1, 1, 254, ALICE)

    eight = single("eight_and_no_more")
    for n in range(9):
        eight.seal(0, n, 100 + n, replace(ALICE, user=f"user{n}", default_since=5))

    circle = Lookup(
        "circle",
        [TEL.encode() + b"\0" + CIRCLE, TEL.encode()],
        [placement(TEL)],
        [(1, 0, TEL), (0, 0, TEL)],
    )
    circle.seal(0, 0, 10, ALICE).seal(1, 0, 11, SHOP)

    lookups = [
        hit,
        single("miss"),
        single("altered_tag_is_a_miss").seal(0, 0, 200, ALICE, alter=0),
        single("gap_ends_it").seal(0, 0, 1, ALICE).seal(0, 2, 2, SHOP),
        single("equal_tags_and_damage")
        .seal(0, 0, 5, ALICE, alter=100)
        .seal(0, 0, 6, ALICE)
        .seal(0, 1, 7, SHOP, alter=191)
        .seal(0, 2, 8, SHOP),
        eight,
        circle,
        rotation,
        single("fewer_bits_than_the_directory", prefix_bits=3, sent=1).seal(0, 0, 77, ALICE),
        single("no_bits", prefix_bits=0, sent=0).seal(0, 0, 77, ALICE),
    ]
    good = []
    for lookup in lookups:
        case = lookup.publish().case()
        response = case["evaluate_response"]
        results = look_up(lookup, response, [bucket for bucket, _ in lookup.buckets])
        for find, result in zip(case["finds"], results):
            find.update(result)
        good.append(case)
    assert [len(result["mappings"]) for case in good for result in case["finds"]] == [
        2, 0, 0, 1, 2, 8, 1, 1, 1, 2, 0, 1, 1,
    ]  # fmt: skip
    return good, _bad(hit, rotation)


def _bad(hit, rotation):
    bad = []

    def refuse(name, lookup, by, response=None, buckets=None):
        changed = {}
        if response is not None:
            changed["evaluate_response"] = response
        if buckets is not None:
            changed["buckets"] = [bucket_fields(*pair) for pair in buckets]
        if response is None:
            response = calls.encode_evaluations(lookup.evaluations)
        buckets = buckets or lookup.buckets
        try:
            look_up(lookup, response, [bucket for bucket, _ in buckets])
        except Refused as refused:
            case = {"name": f"bad_{name}", "base": lookup.name, "with": changed, "by": by}
            bad.append(case | {"refused": refused.args[0]})
        else:
            raise AssertionError(f"{name} is not refused")

    def answer(name, lookup, alter):
        parts = [(epoch, list(elements), proof) for epoch, elements, proof in lookup.evaluations]
        refuse(name, lookup, "evaluations", calls.encode_evaluations(alter(parts)))

    (epoch, elements, proof), = hit.evaluations  # fmt: skip
    one = lambda elements=elements, proof=proof: lambda _: [(epoch, elements, proof)]
    stranger = voprf.evaluate(STRANGER.keys[1], hit.blinded, scalar("a nonce"))
    answer("proof_challenge", hit, one(proof=bytes([proof[0] ^ 1]) + proof[1:]))
    answer("proof_response", hit, one(proof=proof[:32] + scalar_bytes("no response")))
    order = edwards.L.to_bytes(32, "little")
    answer("proof_scalar_non_canonical", hit, one(proof=proof[:32] + order))
    answer("element_non_canonical", hit, one([elements[0], b"\xff" * 32]))
    answer("element_identity", hit, one([bytes(32), elements[1]]))
    answer("elements_swapped", hit, one(elements[::-1]))
    answer("element_of_another_key", hit, one([stranger[0][0], elements[1]]))
    answer("key", hit, one(*stranger))
    answer("elements_missing", hit, one(elements[:1]))
    answer("evaluations_missing", hit, lambda _: [])
    answer("evaluations_descending", rotation, lambda parts: parts[::-1])
    answer("epochs_exchanged", rotation, lambda parts: [(1, *parts[1][1:]), (2, *parts[0][1:])])
    # The proof of a batch is for its order too.
    answer("order", rotation, lambda parts: [parts[0], (2, parts[1][1][::-1], parts[1][2])])

    (bucket, rule), = hit.buckets  # fmt: skip
    slots = rule["slots"]
    altered = {200: slots[200], 3: slots[3][:191] + bytes([slots[3][191] ^ 1])}
    for name, other in (("emptied", {}), ("altered", altered)):
        entries, other_rule = filled(rule["filler"], other)
        changed = replace(bucket, entries=entries)
        refuse(f"bucket_{name}", hit, "buckets", None, [(changed, other_rule)])
    refuse("bucket_version", hit, "buckets", None, [(replace(bucket, version=2), rule)])
    foreign = bucket.signed(STRANGER.seed, hit.prefix_bits)
    refuse("bucket_of_another_directory", hit, "buckets", None, [(foreign, rule)])
    buckets = list(rotation.buckets)
    renamed = [(replace(buckets[at][0], number=buckets[1 - at][0].number), buckets[at][1])
               for at in (1, 0)]  # fmt: skip
    refuse("buckets_exchanged", rotation, "buckets", None, renamed + buckets[2:])
    resealed = (replace(buckets[0][0], epoch=1), buckets[0][1])
    refuse("bucket_epoch", rotation, "buckets", None, [resealed] + buckets[1:])

    for name, sealed in [
        ("mapping_of_another_provider_key", dict(key=PROVIDERS["chat.example"])),
        ("mapping_of_a_stranger_key", dict(key=STRANGER.seed)),
    ]:
        lying = single("hit").seal(0, 0, 200, ALICE, **sealed).publish()
        refuse(name, hit, "mappings", None, lying.buckets)
    # A directory that knows both identifiers and gives one's mapping to the other.
    other = ALICE.signed(MAIL, PROVIDERS["wa.example"])
    lying = single("hit")
    nonce = filler("nonce of another", 12)
    entry = lying.keys(0).seal(DIRECTORY.id, 1, 0, other.plaintext(), nonce)
    lying.slots[lying.number(0)][9] = entry
    refuse("mapping_of_another_identifier", hit, "mappings", None, lying.publish().buckets)
    return bad
