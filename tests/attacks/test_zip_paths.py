"""Archives whose entries lead out, lie about where they are, or would fill a disk: nothing outside is touched."""

import struct
import zipfile

import pytest

from zoo.errors import InputError
from zoo.formats import open_source


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x", "archive/data/../../../x"])
@pytest.mark.parametrize("suffix", ["pth", "npz"])
def test_entries_that_lead_out(name, suffix, tmp_path, ends):
    path = tmp_path / f"file.{suffix}"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl" if suffix == "pth" else "a.npy", b"\x80\x02}.")
        file.writestr(name, b"x")
    assert "leads out of the archive" in str(ends(lambda: open_source(path)))


def directory_of(content):
    """The places of the last directory entry and of the end of the directory."""
    end = content.rindex(b"PK\x05\x06")
    return content.rindex(b"PK\x01\x02", 0, end), end


@pytest.mark.parametrize("offset", [2**64 - 8, 2**63, 2**62, 2**40])
def test_an_offset_past_any_file(offset, pth, ends):
    path = pth()
    content = bytearray(path.read_bytes())
    entry, _ = directory_of(content)
    name, extra = struct.unpack("<HH", content[entry + 28 : entry + 32])
    content[entry + 42 : entry + 46] = b"\xff" * 4  # look in the zip64 field
    content[entry + 46 + name : entry + 46 + name] = struct.pack("<HHQ", 1, 8, offset)
    content[entry + 30 : entry + 32] = struct.pack("<H", extra + 12)
    _, end = directory_of(content)
    size = struct.unpack("<L", content[end + 12 : end + 16])[0]
    content[end + 12 : end + 16] = struct.pack("<L", size + 12)
    path.write_bytes(content)
    assert isinstance(ends(lambda: open_source(path)), InputError)


@pytest.mark.parametrize("place", range(46))
def test_every_field_of_an_entry_set_to_its_most(place, pth, ends):
    path = pth()
    content = bytearray(path.read_bytes())
    entry, _ = directory_of(content)
    content[entry + place] = 0xFF
    path.write_bytes(content)
    ends(lambda: open_source(path).array("a"))


def test_an_empty_archive(tmp_path, ends):
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0, 0, 0, 4, 0)
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04" + end)
    assert isinstance(ends(lambda: open_source(tmp_path / "a.pth")), InputError)


def test_an_array_that_unpacks_to_a_thousand_times_its_size(tmp_path, ends):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (2**31,)}).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(10_000_000))
    assert "looks like a bomb" in str(ends(lambda: open_source(tmp_path / "a.npz")))
