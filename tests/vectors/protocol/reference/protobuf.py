"""As much of protobuf's encoding as the protocol's messages need."""

from . import Refused

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _key(field, kind):
    return varint(field << 3 | kind)


def number(field, value):
    """uint32 and uint64: nothing for zero."""
    return _key(field, VARINT) + varint(value) if value else b""


def data(field, value):
    """bytes and string: nothing for none."""
    return message(field, value) if value else b""


def message(field, value):
    return _key(field, BYTES) + varint(len(value)) + value


def fixed32(field, value):
    """An optional fixed32 that is present."""
    return _key(field, FIXED32) + value.to_bytes(4, "little")


def fixed64(field, value):
    return _key(field, FIXED64) + value.to_bytes(8, "little") if value else b""


def packed_fixed32(field, values):
    return data(field, b"".join(value.to_bytes(4, "little") for value in values))


class _Reader:
    def __init__(self, encoded):
        self.rest = encoded

    def take(self, count):
        if count > len(self.rest):
            raise ValueError("the message ends early")
        head, self.rest = self.rest[:count], self.rest[count:]
        return head

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a varint is too long")


def decode(encoded, schema, name):
    """The fields of a message: `schema` maps numbers to (name, kind), where a
    kind is u32, u64, f32, f64, bytes, text, [f32] or a list of one schema or
    kind. Unknown fields are passed over. Refused under `name` if malformed."""
    fields = {}
    for field, kind in schema.values():
        fields[field] = DEFAULTS.get(kind) if isinstance(kind, str) else None
        if isinstance(kind, list):
            fields[field] = []
    try:
        _decode_into(fields, _Reader(encoded), schema, name)
    except ValueError as error:
        raise Refused(name) from error
    return fields


DEFAULTS = {"u32": 0, "u64": 0, "f64": 0, "bytes": b"", "text": ""}


def _decode_into(fields, reader, schema, name):
    while reader.rest:
        key = reader.varint()
        wire = key & 7
        if wire == VARINT:
            value = reader.varint()
        elif wire == FIXED64:
            value = int.from_bytes(reader.take(8), "little")
        elif wire == BYTES:
            value = reader.take(reader.varint())
        elif wire == FIXED32:
            value = int.from_bytes(reader.take(4), "little")
        else:
            raise ValueError("a wire type that is not in use")
        if key >> 3 == 0:
            raise ValueError("field 0")
        if key >> 3 not in schema:
            continue
        field, kind = schema[key >> 3]
        if kind == ["f32"] and wire == BYTES:
            reader_of_values = _Reader(value)
            while reader_of_values.rest:
                fields[field].append(int.from_bytes(reader_of_values.take(4), "little"))
            continue
        one = kind[0] if isinstance(kind, list) else kind
        if wire != (WIRES.get(one, BYTES) if isinstance(one, str) else BYTES):
            raise ValueError("a field of another type")
        if one == "text":
            value = value.decode()
        elif one == "u32":
            value &= 2**32 - 1
        elif isinstance(one, dict):
            value = decode(value, one, name)
        if isinstance(kind, list):
            fields[field].append(value)
        else:
            fields[field] = value


WIRES = {"u32": VARINT, "u64": VARINT, "f32": FIXED32, "f64": FIXED64}
