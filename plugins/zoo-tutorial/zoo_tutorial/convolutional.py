"""The tutorials' networks for colour images of 32 by 32 pixels: [b, 3, 32, 32] in, [b, num_classes] out."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Two 5x5 convolutions with pooling, then linear layers; the network of the warm-start tutorial.

    `widths` are the outputs of the linear layers `fc1`, `fc2`, …; all but the last are followed by ReLU.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.depth = len(widths)
        for index, (inputs, outputs) in enumerate(zip((16 * 5 * 5, *widths), widths, strict=False), start=1):
            self.add_module(f"fc{index}", nn.Linear(inputs, outputs))

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.conv1(images).relu())
        features = self.pool(self.conv2(features).relu()).flatten(1)
        for index in range(1, self.depth):
            features = self.get_submodule(f"fc{index}")(features).relu()
        answer: Tensor = self.get_submodule(f"fc{self.depth}")(features)
        return answer


def net_a(num_classes: int = 10) -> nn.Module:
    """The network whose parameters are saved."""
    return SmallConvNet((120, 84, num_classes))


def net_b(num_classes: int = 10) -> nn.Module:
    """The network that is warm-started: the same keys and shapes as `net_a`."""
    return SmallConvNet((120, 84, num_classes))


def net_b_longer(num_classes: int = 10) -> nn.Module:
    """One linear layer more: a file of `net_a` lacks the keys of `fc4`."""
    return SmallConvNet((120, 84, 10, num_classes))


def net_b_shorter(num_classes: int = 84) -> nn.Module:
    """One linear layer less: a file of `net_a` has the keys of `fc3` left over."""
    return SmallConvNet((120, num_classes))


def net_b_reshaped(num_classes: int = 20) -> nn.Module:
    """Another number of classes: `fc3` has the keys of `net_a` in other shapes."""
    return SmallConvNet((120, 84, num_classes))


def net_b_renamed(num_classes: int = 10) -> nn.Module:
    """The same layers in the same order under other names: `features.0`, …, `classifier.fc3`."""
    features = nn.Sequential(
        nn.Conv2d(3, 6, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    classifier = OrderedDict(
        fc1=nn.Linear(16 * 5 * 5, 120),
        relu1=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu2=nn.ReLU(),
        fc3=nn.Linear(84, num_classes),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Sequential(classifier)))


def cifar10_quick(num_classes: int = 10) -> nn.Module:
    """Nine layers in a row: three 5x5 convolutions (32, 32, 64 channels) with pooling, and 1024-64-10 linear."""
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.Linear(64, num_classes),
    )


def one_convolution(out_channels: int = 6) -> nn.Module:
    """A single 3x3 convolution, to look at what it does to images: [b, 3, 32, 32] -> [b, out_channels, 30, 30]."""
    return nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, out_channels, kernel_size=3)))
