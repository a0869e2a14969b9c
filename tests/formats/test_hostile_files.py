"""Files that lie, loop, explode or are cut short: each is an InputError, quickly, and nothing in them runs."""

import io
import pickle
import struct
import time
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.pickle_reader import PickleMachine
from zoo.formats.pickled_tensors import resolve, storage


def pickled(*opcodes, protocol=b"\x80\x02"):
    return protocol + b"".join(opcodes) + b"."


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def tensor(numel, offset, shape, stride, key="0", kind="FloatStorage"):
    """The opcodes of a tensor as torch.save writes them, with numbers of one's own."""
    identifier = tuple_of(text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), number(numel)) + b"Q"
    sizes, steps = (tuple_of(*map(number, values)) for values in (shape, stride))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + tuple_of(identifier, number(offset), sizes, steps, b"\x89", b"}")
        + b"R"
    )


def archive(path, data_pkl, records=None, prefix="archive", compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{prefix}/data.pkl", data_pkl)
        for key, content in (records or {}).items():
            file.writestr(f"{prefix}/data/{key}", content)
        for name, content in extra:
            file.writestr(name, content)
    return path


def dict_of(name, value):
    return b"}" + text(name) + value + b"s"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.pth"


def test_the_test_s_own_files_are_good(path):
    data = torch.arange(6.0)
    archive(path, pickled(dict_of("a", tensor(6, 0, [2, 3], [3, 1]))), {"0": data.numpy().tobytes()})
    assert torch.equal(open_source(path).tensor("a"), data.reshape(2, 3))


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (tensor(6, 0, [3, 3], [3, 1]), "beyond its storage"),
        (tensor(6, 5, [2], [1]), "beyond its storage"),
        (tensor(6, -1, [2], [1]), "must be counts"),
        (tensor(6, 0, [-2], [1]), "must be counts"),
        (tensor(6, 0, [2], [-1]), "must be counts"),
        (tensor(6, 0, [2, 3], [1]), "do not fit"),
        (tensor(6, 0, [1] * 65, [1] * 65), "do not fit"),
        (tensor(2**62, 0, [2**40], [1]), "where its tensors need"),
        (tensor(6, 0, [6], [1], key="1"), "missing"),
        (tensor(6, 0, [6], [1], key="../0"), "missing"),
        (tensor(6, 0, [6], [1], kind="NoSuchStorage"), "unknown"),
        (tensor(6, 0, [2**40], [0]), "bomb"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(tR", "damaged"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_of(*[b"N"] * 6) + b"R", "without a storage"),
        (b"cos\nsystem\n" + tuple_of(text("true")) + b"R", "os.system"),
        (b"cbuiltins\neval\n" + tuple_of(text("1")) + b"R", "builtins.eval"),
        (b"(" + text("true") + b"ios\nsystem\n", "os.system"),
        (b"(cos\nsystem\n" + text("true") + b"o", "os.system"),
        (b"cbuiltins\ngetattr\n", "builtins.getattr"),
        (b"\x82\x01", "EXT1"),
        (b"Pabc\n", "damaged"),
        (b"0", "damaged"),
        (b"j\xff\xff\xff\xff", "damaged"),
        (b"Nr\xff\xff\xff\x7f" + b"\x8e" + b"\xff" * 7 + b"\x7f" + b"x", "damaged"),
        (b"\x96" + b"\xff" * 7 + b"\x00" + b"x", "damaged"),
        (b"L" + b"9" * 100_000 + b"L\n", "damaged"),
    ],
)
def test_lying_pickles(opcodes, message, path):
    archive(path, pickled(dict_of("a", opcodes)), {"0": bytes(24)})
    with pytest.raises(InputError, match=message):
        open_source(path)


def test_a_key_that_leads_out_of_the_archive_reads_nothing(path, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    archive(path, pickled(dict_of("a", tensor(6, 0, [6], [1], key="../../secret"))), {"0": bytes(24)})
    with pytest.raises(InputError, match="missing"):
        open_source(path)


def repeated(start, call, count=4000):
    """A long list, and a call that copies it, thousands of times."""
    return b"](" + start + b"eq\x010](" + call + b"q\x02h\x01\x85R" + b"h\x02h\x01\x85R" * count + b"e"


@pytest.mark.parametrize(
    ("bomb", "message"),
    {
        "sizes": (repeated(b"K\x01" * 200_000, b"ctorch\nSize\n"), "no short list"),
        "tables": (repeated(b"K\x01K\x01\x86" * 20_000, b"ccollections\nOrderedDict\n"), "never comes to an end"),
        "tuples": (repeated(b"K\x01" * 200_000, b"cbuiltins\ntuple\n"), "never comes to an end"),
        "objects": (
            b"](" + b"K\x01" * 200_000 + b"tq\x01c_\nA\nq\x02h\x01R" + b"h\x02h\x01R" * 4000 + b"e",
            "never comes to an end",
        ),
    }.values(),
)
def test_pickles_that_repeat_one_list_end_quickly(bomb, message, path):
    archive(path, pickled(dict_of("a", bomb) + text("b") + tensor(6, 0, [6], [1]) + b"s"), {"0": bytes(24)})
    start = time.process_time()
    with pytest.raises(InputError, match=message):
        open_source(path)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "bomb",
    {
        "deep tuples": b")" + b"\x85" * 500_000,
        "deep lists": b"]" * 300_000 + b"a" * 299_999,
        "a deep tuple as a key": b"}" + b")" + b"\x85" * 300_000 + b"Ns",
        "a list in itself": b"]q\x00h\x00a",
        "a dict in itself": b"}q\x00" + text("a") + b"h\x00s",
        "laughs": b"]q\x000" + b"".join(b"](%se" % (b"h%c" % n * 10) + b"q%c0" % (n + 1) for n in range(40)) + b"h\x28",
    }.items(),
    ids=lambda item: item[0],
)
def test_looping_and_deep_pickles_end_quickly(bomb, path):
    archive(path, pickled(dict_of("a", bomb[1]) + text("b") + tensor(6, 0, [6], [1]) + b"s"), {"0": bytes(24)})
    start = time.process_time()
    assert list(open_source(path).entries) == ["b"]
    assert time.process_time() - start < 5


def test_compressed_entries_are_refused(path):
    archive(path, pickled(dict_of("a", tensor(6, 0, [6], [1]))), {"0": bytes(24)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        open_source(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "archive/../../evil", "archive\\..\\evil"])
def test_names_that_lead_out_are_refused(name, path):
    archive(path, pickled(dict_of("a", tensor(6, 0, [6], [1]))), {"0": bytes(24)}, extra=[(name, b"x")])
    with pytest.raises(InputError, match="leads out of the archive"):
        open_source(path)


def test_overlapping_entries_are_refused(path):
    archive(path, pickled(dict_of("a", tensor(6, 0, [6], [1]))), {"0": bytes(24), "1": bytes(24)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"archive/data/1") - 46
    first = content.index(b"archive/data/0") - 30
    content[entry + 42 : entry + 46] = struct.pack("<I", first)
    path.write_bytes(content)
    with pytest.raises(InputError, match="share a name or a place"):
        open_source(path)


def test_sizes_past_the_next_entry_are_refused(path):
    archive(path, pickled(dict_of("a", tensor(6, 0, [6], [1]))), {"0": bytes(24), "1": bytes(24)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"archive/data/0") - 46
    content[entry + 20 : entry + 28] = struct.pack("<II", 60, 60)
    path.write_bytes(content)
    with pytest.raises(InputError, match="overlaps the next"):
        open_source(path)


def test_a_directory_of_endless_size_is_not_read(path):
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(300_000_000)
        file.seek(0, io.SEEK_END)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 250_000_000, 50_000_000, 0))
    with pytest.raises(InputError, match="is the limit"):
        open_source(path)


def test_a_huge_pickle_is_read_no_further_than_its_first_mistake(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", bytes(100_000_001))
    with pytest.raises(InputError, match="damaged"):
        open_source(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_cut_short_anywhere(legacy, state, path):
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for length in [*range(0, 300, 7), *range(300, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            open_source(path)


@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.(script|save)` is deprecated:FutureWarning")
def test_torchscript_archives_are_named(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(InputError, match="TorchScript archive"):
        open_source(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"just words", "of no kind that zoo reads"),
        (pickle.dumps({"a": 1}), "plain pickle"),
        (pickle.dumps(Exception("x")), "neither tensors nor plain data"),
        (b"\x80", "damaged"),
    ],
)
def test_other_files_are_named(content, message, path):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(path)


def test_old_tar_files_are_named(path):
    import tarfile

    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    with pytest.raises(InputError, match="tar archive"):
        open_source(path)


def test_places_that_are_no_file(tmp_path):
    (tmp_path / "model.pth").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file .*did you mean model\.pth"):
        open_source(tmp_path / "modle.pth")
    with pytest.raises(InputError, match=r"contains no model\.safetensors"):
        open_source(tmp_path / "empty")
    with pytest.raises(InputError):
        open_source("x" * 5000)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        open_source("/dev/null")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of pickletools, in old strings
@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60))
def test_fuzzed_pickles_give_an_object_or_an_input_error(content):
    try:
        PickleMachine(io.BytesIO(b"\x80\x02" + content), resolve, storage).run()
    except InputError:
        return


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of pickletools, in old strings
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_torch_files_are_an_input_error_or_stay_inside_the_file(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    buffer = io.BytesIO()
    legacy = data.draw(st.booleans())
    torch.save({"a": torch.ones(3), "b": torch.ones(2, 2)}, buffer, _use_new_zipfile_serialization=not legacy)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        source = open_source(path)
    except InputError:
        return
    for name in source.entries:
        assert source.array(name).shape == source.entries[name].shape
