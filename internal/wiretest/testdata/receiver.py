"""A receiver of the PROXY protocol, and the vectors of testdata/wire.json run against it.

    python3 receiver.py wire.json

It is written from the specification, with Python's standard library alone, and shares nothing with
the library in Go. It reads addresses with ipaddress and tells three things apart: a header, bytes
that aren't one, and too few bytes to tell.
"""

import binascii
import ipaddress
import json
import re
import socket
import struct
import sys

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROTOCOLS = {
    0x11: ("TCP4", 4), 0x12: ("UDP4", 4), 0x21: ("TCP6", 16), 0x22: ("UDP6", 16),
    0x31: ("UNIX_STREAM", 108), 0x32: ("UNIX_DGRAM", 108),
}


class NoHeader(Exception):
    outcome = "no header"


class Incomplete(Exception):
    outcome = "incomplete"


class Malformed(Exception):
    outcome = "malformed"


def receive(data):
    """Returns the header and its length."""
    if data.startswith(b"PROXY"):
        return line(data)
    if data.startswith(SIGNATURE):
        return binary(data)
    if b"PROXY".startswith(data) or SIGNATURE.startswith(data):
        raise Incomplete
    raise NoHeader


def line(data):
    end = data.find(b"\r\n", 0, 107)
    if end < 0:
        if len(data) >= 107:
            raise Malformed
        raise Incomplete
    header = {"version": 1, "command": "PROXY", "protocol": "UNSPEC"}
    text = data[:end]
    if text == b"PROXY UNKNOWN" or text.startswith(b"PROXY UNKNOWN "):
        return header, end + 2
    number = rb"(0|[1-9][0-9]{0,4})"
    fields = re.fullmatch(
        rb"PROXY TCP[46] ([0-9A-Fa-f:.]{1,39}) ([0-9A-Fa-f:.]{1,39}) " + number + b" " + number,
        text)
    if not fields:
        raise Malformed
    try:
        source, destination = [ipaddress.ip_address(f.decode()) for f in fields.groups()[:2]]
    except ValueError:
        raise Malformed from None
    ports = [int(f) for f in fields.groups()[2:]]
    if max(ports) > 65535:
        raise Malformed
    header["protocol"] = "TCP4"
    if 6 in (source.version, destination.version):
        header["protocol"] = "TCP6"
        source, destination = six(source), six(destination)
    header["source"] = source.packed, ports[0]
    header["destination"] = destination.packed, ports[1]
    return header, end + 2


def six(address):
    return address if address.version == 6 else ipaddress.ip_address("::ffff:%s" % address)


def binary(data):
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise Malformed
    local = len(data) > 12 and data[12] == 0x20
    if len(data) > 13 and not local and (data[13] >> 4 > 3 or data[13] & 15 > 2):
        raise Malformed
    if len(data) < 16:
        raise Incomplete
    length = 16 + struct.unpack_from(">H", data, 14)[0]
    name, size = PROTOCOLS.get(data[13], ("UNSPEC", 0))
    header = {"version": 2, "command": "LOCAL" if local else "PROXY", "protocol": "UNSPEC"}
    if not local and size:
        header["protocol"] = name
        tlvs_at = 16 + 2 * size + (4 if size != 108 else 0)
        if length < tlvs_at:
            raise Malformed
    if len(data) < length:
        raise Incomplete
    if local or not size:
        return header, length
    wire = data[:length]
    source, destination = wire[16:16 + size], wire[16 + size:16 + 2 * size]
    if size != 108:
        ports = struct.unpack_from(">HH", wire, 16 + 2 * size)
        source, destination = (source, ports[0]), (destination, ports[1])
    header["source"], header["destination"] = source, destination
    header["tlvs"] = list(tlvs(wire, tlvs_at, length))
    check(wire, tlvs_at, header["tlvs"])
    return header, length


def tlvs(wire, at, end):
    while at < end:
        if at + 3 > end:
            raise Malformed
        kind, size = struct.unpack_from(">BH", wire, at)
        if at + 3 + size > end:
            raise Malformed
        yield kind, wire[at + 3:at + 3 + size]
        at += 3 + size


def check(wire, at, all_tlvs):
    if sum(kind == 0x03 for kind, _ in all_tlvs) > 1:
        raise Malformed
    for kind, value in all_tlvs:
        if kind == 0x03:
            zeroed = wire[:at + 3] + bytes(4) + wire[at + 7:]
            if len(value) != 4 or crc32c(zeroed) != int.from_bytes(value, "big"):
                raise Malformed
        if kind == 0x05 and len(value) > 128:
            raise Malformed
        if kind == 0x20:
            if len(value) < 5:
                raise Malformed
            list(tlvs(value, 5, len(value)))
        at += 3 + len(value)


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = list(crc_table())


def crc32c(data):
    total = 0xFFFFFFFF
    for byte in data:
        total = total >> 8 ^ TABLE[(total ^ byte) & 255]
    return total ^ 0xFFFFFFFF


# The vectors.

def unpack(text):
    parts = (part.partition("*") for part in text.split())
    return b"".join(binascii.unhexlify(digits) * int(times or 1) for digits, _, times in parts)


def address(text):
    """The address of a vector, as receive has it."""
    if ":" not in text:
        return unpack(text)
    host, _, port = text.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return socket.inet_pton(family, host.strip("[]")), int(port)


def expected(vector):
    if vector["outcome"] != "accept":
        return vector["outcome"]
    header = {key: vector[key] for key in ("version", "command", "protocol")}
    for end in ("source", "destination"):
        if end in vector:
            header[end] = address(vector[end])
    if vector["version"] == 2 and "source" in vector:
        header["tlvs"] = [
            (int(kind, 16), unpack(value))
            for kind, value, *times in vector.get("tlvs", []) for _ in range(*times or [1])]
    return header, vector["length"]


def outcome(data):
    try:
        return receive(data)
    except (NoHeader, Incomplete, Malformed) as e:
        return e.outcome


def main(path):
    with open(path, encoding="utf-8") as f:
        vectors = json.load(f)
    wrong = prefixes = 0
    for vector in vectors:
        wire, want = unpack(vector["wire"]), expected(vector)
        if vector["outcome"] == "accept":
            # Too few bytes are too few, and what follows the header doesn't matter.
            whole = wire[:vector["length"]]
            cuts = range(len(whole)) if len(whole) < 3000 else range(0, len(whole), 997)
            for cut in cuts:
                prefixes += 1
                if outcome(whole[:cut]) != "incomplete":
                    want = "incomplete at %d bytes" % cut
            if outcome(whole + b"payload") != want:
                want = "the same with payload"
        got = outcome(wire)
        # A header that is bad already may still be waited for, until its end or the limit.
        late = vector["outcome"] == "malformed" and got == "incomplete"
        if got != want and not late:
            wrong += 1
            print("%s: %s: got %s, want %s" % (vector["section"], vector["name"], got, want))
        if late and outcome(wire + b"\r\n" * 64) == "incomplete" and wire[:5] == b"PROXY":
            wrong += 1
            print("%s: %s: never refused" % (vector["section"], vector["name"]))
    print("%d vectors and %d prefixes, %d wrong" % (len(vectors), prefixes, wrong))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
