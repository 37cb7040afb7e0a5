"""parameters.json and providers.json."""

from reference import edwards, protobuf as pb
from reference.formats import (
    encode_parameters,
    encode_providers,
    follow,
    read_parameters,
    read_providers,
    signed_input,
    succession_input,
)

from . import DIRECTORY, PROVIDERS, STRANGER, refusal, seed

PARAMETERS = {
    "directory_id": DIRECTORY.id,
    "serial": 7,
    "not_before_s": 1_700_000_000,
    "not_after_s": 1_700_604_800,
    "prefix_bits": 17,
    "entry_bytes": 192,
    "bucket_entries": 256,
    "epochs": [
        {"epoch": epoch, "public_key": key} for epoch, key in DIRECTORY.public_keys.items()
    ],
    "refresh_period_s": 86_400,
    "regions": ["DE", "US"],
}
SMALLEST = PARAMETERS | {
    "serial": 0,
    "not_before_s": 0,
    "not_after_s": 1,
    "prefix_bits": 0,
    "epochs": PARAMETERS["epochs"][:1],
    "refresh_period_s": 0,
    "regions": [],
}
LARGEST = PARAMETERS | {
    "serial": 2**53 - 1,
    "not_after_s": 2**53 - 1,
    "prefix_bits": 32,
    "epochs": [
        {"epoch": 2**32 - 2, "public_key": DIRECTORY.public_keys[1]},
        {"epoch": 2**32 - 1, "public_key": DIRECTORY.public_keys[2]},
    ],
    "refresh_period_s": 2**32 - 1,
    "regions": ["US"] * 512,
}
# Field 100, a varint: what a later version might add.
UNKNOWN = pb.number(100, 5)


def _signed_cases(word, read):
    """What makes cases of a signed body, and the list of refused ones."""
    bad = []

    def good(name, fields, body):
        signature = DIRECTORY.sign(signed_input(word, body))
        assert read(body, signature, DIRECTORY.public_key) == fields
        return {
            "name": name,
            "identity_seed": DIRECTORY.seed,
            "identity_public_key": DIRECTORY.public_key,
            word: fields,
            "signature_input": signed_input(word, body),
            "body": body,
            "signature": signature,
        }

    def refuse(name, body, signature=None, key=DIRECTORY.public_key, more=None):
        signature = DIRECTORY.sign(signed_input(word, body)) if signature is None else signature

        def take():
            fields = read(body, signature, key)
            if more:
                more(fields)

        case = {"name": f"bad_{name}", "identity_public_key": key, "body": body}
        bad.append(case | {"signature": signature, "refused": refusal(take)})
        return bad[-1]

    def refuse_signatures(body):
        signature = DIRECTORY.sign(signed_input(word, body))
        other = "providers" if word == "parameters" else "parameters"
        refuse("signature_short", body, signature[:63])
        refuse("signature_long", body, signature + b"\0")
        refuse("signature", body, signature[:-1] + bytes([signature[-1] ^ 1]))
        refuse("signature_of_another_kind", body, DIRECTORY.sign(signed_input(other, body)))
        joined = signed_input(word, b"")[:-1] + body
        refuse("signature_without_separator", body, DIRECTORY.sign(joined))
        refuse("signature_of_the_body_alone", body, DIRECTORY.sign(body))
        refuse("key", body, signature, STRANGER.public_key)
        refuse("body", body[:-1] + bytes([body[-1] ^ 1]), signature)
        refuse("body_longer", body + UNKNOWN, signature)
        refuse("encoding", b"\xff" * 9)
        refuse("encoding_cut_short", body[:-1])
        foreign = STRANGER.sign(signed_input(word, body))
        refuse("directory_of_another_key", body, foreign, STRANGER.public_key)

    return good, refuse, refuse_signatures, bad


def parameters_cases():
    case, refuse, refuse_signatures, bad = _signed_cases("parameters", read_parameters)
    good = [
        case(name, fields, encode_parameters(fields))
        for name, fields in [
            ("rotation", PARAMETERS),
            ("smallest", SMALLEST),
            ("largest", LARGEST),
        ]
    ]
    good.append(case("unknown_field", PARAMETERS, encode_parameters(PARAMETERS) + UNKNOWN))
    refuse_signatures(encode_parameters(PARAMETERS))

    first, second = PARAMETERS["epochs"]
    third = {"epoch": 3, "public_key": first["public_key"]}
    for name, change in [
        ("directory_id", {"directory_id": STRANGER.id}),
        ("directory_id_short", {"directory_id": DIRECTORY.id[:15]}),
        ("not_after", {"not_after_s": PARAMETERS["not_before_s"]}),
        ("prefix_bits", {"prefix_bits": 33}),
        ("entry_bytes", {"entry_bytes": 128}),
        ("entry_bytes_missing", {"entry_bytes": 0}),
        ("bucket_entries", {"bucket_entries": 255}),
        ("epochs_missing", {"epochs": []}),
        ("epochs_three", {"epochs": [first, second, third]}),
        ("epochs_descending", {"epochs": [second, first]}),
        ("epochs_equal", {"epochs": [first, first]}),
        ("epoch_0", {"epochs": [first | {"epoch": 0}]}),
        ("public_key_identity", {"epochs": [first | {"public_key": bytes(32)}]}),
        ("public_key_non_canonical", {"epochs": [first | {"public_key": b"\xff" * 32}]}),
        ("public_key_negative", {"epochs": [first | {"public_key": b"\x01" + bytes(31)}]}),
        ("public_key_short", {"epochs": [first | {"public_key": first["public_key"][:31]}]}),
        ("public_key_long", {"epochs": [first | {"public_key": first["public_key"] + b"\0"}]}),
        ("regions_lower_case", {"regions": ["de"]}),
        ("regions_three_letters", {"regions": ["DEU"]}),
        ("regions_number", {"regions": ["D3"]}),
        ("regions_too_many", {"regions": ["US"] * 513}),
    ]:
        refuse(name, encode_parameters(PARAMETERS | change))
    return good, bad


def provider_cases():
    case, refuse, refuse_signatures, bad = _signed_cases("providers", read_providers)
    seeds = [seed(f"key {n} of wa.example") for n in range(4)]
    keys = [edwards.public_key(of) for of in seeds]

    def step(old, new, name="wa.example"):
        return {
            "old_public_key": keys[old],
            "new_public_key": keys[new],
            "signature": edwards.sign(seeds[old], succession_input(name, keys[new])),
        }

    chat = {
        "name": "chat.example",
        "public_key": edwards.public_key(PROVIDERS["chat.example"]),
        "successions": [],
    }
    wa = {"name": "wa.example", "public_key": keys[2], "successions": [step(0, 1), step(1, 2)]}
    listed = {"directory_id": DIRECTORY.id, "serial": 3, "providers": [chat, wa]}
    good = [
        case("two", listed, encode_providers(listed)),
        case("empty", listed | {"serial": 0, "providers": []},
             encode_providers(listed | {"serial": 0, "providers": []})),
        case("unknown_field", listed, encode_providers(listed) + UNKNOWN),
        case("most_successions",
             listed | {"providers": [wa | {"successions": [step(0, 1)] * 64}]},
             encode_providers(listed | {"providers": [wa | {"successions": [step(0, 1)] * 64}]})),
    ]  # fmt: skip
    good[0]["succession_input"] = succession_input("wa.example", keys[2])
    good[0]["follows"] = [
        {"provider": "chat.example", "pinned": chat["public_key"]},
        *({"provider": "wa.example", "pinned": key} for key in keys[:3]),
    ]
    for pin in good[0]["follows"]:
        follow(chat if pin["provider"] == "chat.example" else wa, pin["pinned"])
    refuse_signatures(encode_providers(listed))

    def with_wa(**change):
        return listed | {"providers": [chat, wa | change]}

    def with_step(**change):
        return with_wa(successions=[step(0, 1) | change])

    order_eight = next(
        key for key in (bytes([n]) + bytes(31) for n in range(256))
        if (p := edwards.Point.decompress(key)) and p.is_small_order()
    )  # fmt: skip
    no_point = b"\x02" + bytes(31)
    assert edwards.Point.decompress(no_point) is None
    for name, fields in [
        ("directory_id", listed | {"directory_id": STRANGER.id}),
        ("directory_id_short", listed | {"directory_id": DIRECTORY.id[:15]}),
        ("name_upper_case", with_wa(name="WA.example")),
        ("name_empty", with_wa(name="")),
        ("name_long", with_wa(name="w" * 60 + ".some.example")),
        ("public_key_short", with_wa(public_key=keys[2][:31])),
        ("public_key_no_point", with_wa(public_key=no_point)),
        ("public_key_small_order", with_wa(public_key=order_eight)),
        ("successions_too_many", with_wa(successions=[step(0, 1)] * 65)),
        ("old_public_key_short", with_step(old_public_key=keys[0][:31])),
        ("old_public_key_small_order", with_step(old_public_key=order_eight)),
        ("new_public_key_no_point", with_step(new_public_key=no_point)),
        ("succession_signature_short", with_step(signature=bytes(63))),
        ("providers_descending", listed | {"providers": [wa, chat]}),
        ("providers_equal", listed | {"providers": [wa, wa]}),
    ]:
        refuse(name, encode_providers(fields))

    def refuse_pin(name, pinned, **change):
        fields = with_wa(**change)
        body = encode_providers(fields)
        found = refuse(name, body, more=lambda read: follow(read["providers"][1], pinned))
        found["pinned"] = {"provider": "wa.example", "public_key": pinned}

    forged = step(1, 2) | {"signature": step(0, 1)["signature"]}
    refuse_pin("succession_missing", keys[0], successions=[step(1, 2)])
    refuse_pin("succession_of_another_key", keys[3])
    refuse_pin("succession_forged", keys[0], successions=[step(0, 1), forged])
    refuse_pin("succession_of_another_provider", keys[1], successions=[step(1, 2, "wb.example")])
    refuse_pin("succession_out_of_order", keys[0], successions=[step(1, 2), step(0, 1)])
    beyond = [step(0, 1), step(1, 2), step(2, 3)]
    refuse_pin("succession_beyond_the_key", keys[0], successions=beyond)
    return good, bad
