"""What a rank knows of the network that it is on."""

import socket

import psutil
import pytest

from modelyard.adapters.ray.process_group import interface

pytestmark = pytest.mark.integration


def test_interface_is_the_one_with_the_address_and_none_where_no_interface_has_it() -> None:
    addresses = {(one.address, name) for name, own in psutil.net_if_addrs().items() for one in own if one.family == socket.AF_INET}
    assert ("127.0.0.1", "lo") in addresses
    for address, name in addresses:
        assert interface(address) == name
    assert interface("192.0.2.77") is None, "an address for documentation is nobody's"
