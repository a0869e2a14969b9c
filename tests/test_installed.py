"""What counts as installed."""

from zoo import registry
from zoo.installed import version


def test_a_plugin_is_installed_under_the_name_in_its_metadata(plugins):
    plugins.write("zoo-acme", "[zoo.modules]\nrelu = torch.nn:ReLU\n", version="1.5")
    (plugins.folder / "zoo_acme-1.5.dist-info").rename(plugins.folder / "acme-1.5.dist-info")
    registry.refresh()
    assert version("zoo-acme") == "1.5"
    assert version("zoo-nobody") is None
