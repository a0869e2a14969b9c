"""Addresses that would write outside of the cache, and what lies in it under a name that somebody else chose."""

import socket

import pytest

from zoo.cache import weights_folder
from zoo.errors import InputError, ZooError
from zoo.formats.remote import check_address, kept, place_of


@pytest.mark.parametrize(
    "name", ["..%2f..%2fx", "%2e%2e", "a%00b", "..", "%2fetc%2fpasswd", "a\\..\\b", "CON", "x" * 5000, "a%0ab", "%ff"]
)
def test_names_stay_in_the_cache(name, ends):
    found = ends(lambda: place_of(f"https://example.org/{name}"))
    if not isinstance(found, ZooError):
        path, _ = found
        assert path.resolve().is_relative_to(weights_folder().resolve())
        assert len(path.name) <= 255


@pytest.mark.parametrize(
    "address",
    ["hf://org/repo/../../x", "hf://org/repo/a@../../x", "hf://org/repo/a\\..\\b", "hf://../x", "http://example.org/x",
     "https://", "https:///x", "file://", "https://[::1", "hf://org"],
)  # fmt: skip
def test_addresses_that_are_none(address, ends):
    assert isinstance(ends(lambda: check_address(address)), InputError)


@pytest.mark.parametrize("address", ["https://example.org/x.pth", "hf://org/repo", "hf://org/repo/a.safetensors@main"])
def test_what_is_kept_is_found_without_a_connection(address, monkeypatch):
    def refused(*_):
        raise AssertionError("it opens a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert kept(address) is None
