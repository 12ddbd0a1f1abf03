#!/usr/bin/env python3
"""A second reader of statefs, written from RFC-0001 alone and sharing no code with the engine.

`statefs_reader.py IMAGE` prints what a store answers: a line a key with version and value in hex, or
`corrupt`, or `uncertain`; a last line `hole` when absence is not certain; or a line `error NAME`.
`--folder DIR` does so for each `*.sparse` in a folder, into a file of the same name with the ending `.py`.
"""
import struct
import sys
from pathlib import Path

POLYNOMIAL = 0x82F63B78


def table():
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        entries.append(byte)
    return entries


TABLE = table()


def crc(salt, data):
    """Section 1: CRC-32C over eight bytes of salt, then the data."""
    value = 0xFFFFFFFF
    for byte in salt.to_bytes(8, "little") + data:
        value = TABLE[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def pad8(count):
    return (count + 7) // 8 * 8


class StoreError(Exception):
    pass


class Super:
    """Section 2."""

    def __init__(self, data):
        self.unit, self.units, self.segments = u32(data, 12), u32(data, 16), u32(data, 20)
        self.store_id, self.salt, self.generation = data[24:40], u64(data, 40), u64(data, 48)
        self.start, self.frontier = u64(data, 56), u64(data, 64)
        self.incarnation = u64(data, 72)
        self.base_epoch, self.base_crc = u64(data, 96), u32(data, 104)


def superblock(image):
    worst = "Foreign"
    unit = 4096
    while unit <= 65536:
        found = []
        for slot in (0, 1):
            data = image[slot * unit:(slot + 1) * unit]
            if len(data) < unit or data[:8] != b"NXSTATFS":
                continue
            if u32(data, 12) != unit or crc(0, data[:unit - 4]) != u32(data, unit - 4):
                worst = "SuperblockLost"
                continue
            if u32(data, 8) != 1:
                raise StoreError("NewerFormat")
            block = Super(data)
            if block.generation % 2 == slot:
                found.append(block)
        if found:
            best = max(found, key=lambda block: block.generation)
            if len(image) < (2 + best.units * best.segments) * unit:
                raise StoreError("Truncated")
            return best
        unit *= 2
    raise StoreError(worst)


class Group:
    """Section 4: header, records, and what of it verifies."""


def header(store, data, magic):
    if len(data) < 88 or data[:4] != magic:
        return None
    salt = u64(data, 8) ^ store.salt
    if crc(salt, data[:80]) != u32(data, 80):
        return None
    group = Group()
    group.kind, group.salt, group.epoch, group.previous = u32(data, 4), salt, u64(data, 16), u64(data, 24)
    group.incarnation, group.first_version, group.superblock = u64(data, 32), u64(data, 40), u64(data, 48)
    group.previous_crc, group.body, group.table_bytes = u32(data, 56), u32(data, 60), u32(data, 64)
    group.count, group.units, group.table_crc = u32(data, 68), u32(data, 72), u32(data, 76)
    plain = data[4:8] + salt.to_bytes(8, "little") + data[16:80]
    group.crc = crc(salt, plain)
    return group


def record(data, at, salt):
    if at + 32 > len(data) or data[at] not in (1, 2, 3, 4, 5):
        return None
    key_bytes, value_bytes = struct.unpack_from("<HI", data, at + 2)
    key = data[at + 32:at + 32 + key_bytes]
    if len(key) < key_bytes or key_bytes > 255 or value_bytes > 65536:
        return None
    if crc(salt, data[at:at + 28] + key) != u32(data, at + 28):
        return None
    return {"kind": data[at], "corrupt": data[at + 1] & 1, "key": key, "length": value_bytes,
            "version": u64(data, at + 8), "crc": u32(data, at + 16), "segment": u32(data, at + 20),
            "offset": u32(data, at + 24), "head": 32 + pad8(key_bytes)}


def records(data, count, salt, with_payload):
    """The records of a table, or of a body, and the table they make."""
    found, at, made = [], 0, b""
    for _ in range(count):
        one = record(data, at, salt)
        if one is None:
            return None, b""
        found.append(one)
        made += data[at:at + one["head"]]
        at += one["head"] + (pad8(one["length"]) if with_payload else 0)
    return found, made


class Reader:
    def __init__(self, image):
        self.image = image
        self.store = superblock(image)
        self.keys, self.hole = {}, False

    def segment(self, number):
        start = (2 + number * self.store.units) * self.store.unit
        return self.image[start:start + self.store.units * self.store.unit]

    def heads(self):
        """Section 3, and 7.2: heads, or what the groups tell of lost ones."""
        found = []
        for number in range(self.store.segments):
            data = self.segment(number)
            for at in (0, (self.store.units - 1) * self.store.unit):
                head = data[at:at + 64]
                if head[:4] == b"SFSG" and u32(head, 4) == number and head[8:24] == self.store.store_id \
                        and crc(self.store.salt, head[:60]) == u32(head, 60):
                    found.append({"segment": number, "generation": u64(head, 24), "salt": u64(head, 32),
                                  "incarnation": u64(head, 40), "frontier": u64(head, 48)})
                    break
            else:
                found += self.told_by_groups(number, data)
        return found

    def told_by_groups(self, number, data):
        groups = []
        for unit in range(1, self.store.units - 1):
            part = data[unit * self.store.unit:][:88]
            one = header(self.store, part, b"SFGH") or header(self.store, part, b"SFGB")
            groups += [one] if one else []
        newest = max(groups, key=lambda one: one.epoch, default=None)
        if newest is None or newest.epoch <= self.store.base_epoch:
            return []
        oldest = min((one for one in groups if one.salt == newest.salt), key=lambda one: one.epoch)
        return [{"segment": number, "generation": self.store.start, "salt": newest.salt,
                 "incarnation": oldest.incarnation, "frontier": oldest.previous}]

    def groups_in(self, head):
        """Section 7.3: the next group at a unit, or the one whose commit record B is there."""
        data, at = self.segment(head["segment"]), 1
        consumed = 1
        while at < self.store.units - 1:
            group = self.group_at(data, at, head) or self.group_before(data, at, head, consumed)
            if group is None:
                at += 1
                continue
            at = consumed = group.start + group.units
            yield group

    def places(self, group):
        first = 88 + group.body
        units = -(-(first + 88 + group.table_bytes) // self.store.unit)
        return first, units * self.store.unit, units + -(-(88 + group.table_bytes) // self.store.unit)

    def group_at(self, data, at, head):
        group = header(self.store, data[at * self.store.unit:], b"SFGH")
        return self.load(group, data, at, head)

    def group_before(self, data, at, head, consumed):
        group = header(self.store, data[at * self.store.unit:], b"SFGB")
        if group is None:
            return None
        start = at - self.places(group)[1] // self.store.unit
        return self.load(group, data, start, head) if start >= consumed else None

    def load(self, group, data, start, head):
        if group is None or group.salt != head["salt"] or group.previous >= group.epoch:
            return None
        commit_a, commit_b, units = self.places(group)
        if units != group.units or start + units > self.store.units - 1:
            return None
        group.start, group.segment = start, head["segment"]
        whole = data[start * self.store.unit:(start + units) * self.store.unit]
        group.records = None
        for magic, at in ((b"SFGA", commit_a), (b"SFGB", commit_b)):
            copy = header(self.store, whole[at:], magic)
            part = whole[at + 88:at + 88 + group.table_bytes]
            if group.records is None and copy and copy.crc == group.crc and crc(group.salt, part) == group.table_crc:
                group.records, _ = records(part, group.count, group.salt, False)
        if group.records is None:
            found, made = records(whole[88:88 + group.body], group.count, group.salt, True)
            if found is not None and crc(group.salt, made) == group.table_crc:
                group.records = found
        group.whole = group.records is not None and all(
            crc(self.store.salt ^ one["version"], whole[one["offset"]:one["offset"] + one["length"]]) == one["crc"]
            for one in group.records if one["kind"] in (1, 4))
        return group

    def lose(self):
        self.hole = True
        for entry in self.keys.values():
            entry["uncertain"] = True

    def apply(self, group):
        """Section 7.5."""
        if (group.previous, group.previous_crc) != (self.epoch, self.crc):
            self.lose()
        if group.records is None:
            self.lose()
        for one in group.records or []:
            if one["kind"] == 5:
                continue
            known = self.keys.get(one["key"])
            if known and known["version"] > one["version"]:
                continue
            state = {1: "live", 4: "live", 3: "live", 2: "deleted"}[one["kind"]]
            if not group.whole or one["corrupt"]:
                state = "corrupt"
            place = (one["segment"], one["offset"])
            if one["kind"] in (1, 4):
                place = (group.segment, group.start * self.store.unit + one["offset"])
            self.keys[one["key"]] = {"version": one["version"], "crc": one["crc"], "length": one["length"],
                                     "place": place, "state": state, "uncertain": False}
        self.epoch, self.crc = group.epoch, group.crc

    def replay(self):
        """Section 7.4 to 7.6."""
        heads = self.heads()
        proven = max([self.store.frontier] + [head["frontier"] for head in heads])
        log = [head for head in heads if head["generation"] >= self.store.start]
        log.sort(key=lambda head: (head["frontier"], head["incarnation"], head["generation"]))
        self.epoch, self.crc = self.store.base_epoch, self.store.base_crc
        incarnation, undecided = self.store.incarnation, None
        for head in log:
            for group in self.groups_in(head):
                newest = undecided.epoch if undecided else self.epoch
                if group.incarnation < incarnation or group.epoch <= newest:
                    continue
                incarnation = group.incarnation
                proven = max(proven, group.previous)
                if undecided and group.previous >= undecided.epoch:
                    self.apply(undecided)
                undecided = group
        if undecided and (undecided.epoch <= proven or undecided.whole):
            self.apply(undecided)
        if self.epoch < proven:
            self.lose()

    def answers(self):
        lines = []
        for key, entry in sorted(self.keys.items()):
            name = key.decode()
            if entry["uncertain"]:
                if entry["state"] != "deleted":
                    lines.append(f"{name} uncertain")
            elif entry["state"] == "corrupt":
                lines.append(f"{name} corrupt")
            elif entry["state"] == "live":
                segment, offset = entry["place"]
                value = self.segment(segment)[offset:offset + entry["length"]]
                if len(value) == entry["length"] and crc(self.store.salt ^ entry["version"], value) == entry["crc"]:
                    lines.append(f"{name} {entry['version']} {value.hex()}".rstrip())
                else:
                    lines.append(f"{name} corrupt")
        return "".join(line + "\n" for line in lines + (["hole"] if self.hole else []))


def answers(image):
    try:
        reader = Reader(image)
    except StoreError as error:
        return f"error {error}\n"
    reader.replay()
    return reader.answers()


def load(path):
    data = Path(path).read_bytes()
    if data[:8] != b"SPARSE01":
        return data
    image = bytearray(u64(data, 8))
    for at in range(16, len(data), 8 + 512):
        offset = u64(data, at)
        image[offset:offset + 512] = data[at + 8:at + 8 + 512]
    return bytes(image)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--folder":
        for path in sorted(Path(sys.argv[2]).glob("*.sparse")):
            path.with_suffix(".py").write_text(answers(load(path)))
    elif len(sys.argv) == 2:
        sys.stdout.write(answers(load(sys.argv[1])))
    else:
        sys.exit(__doc__)


main()
