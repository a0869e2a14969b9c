"""A small convolutional network that comes with zoo: to try a plugin or a recipe on, in milliseconds."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside a shortcut: [b, inputs, h, w] -> [b, outputs, h / 2, w / 2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / 2, w / 2]."""
        out = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        summed: Tensor = self.act(out + self.shortcut(x))
        return summed


class SmallCNN(nn.Module):
    """A stem, two residual blocks, global pooling, dropout and a linear classifier, for images of any size."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=4, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(Residual(width, 2 * width), Residual(2 * width, 2 * width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [b, in_channels, h, w] -> scores [b, num_classes]."""
        scores: Tensor = self.classifier(self.dropout(self.pool(self.blocks(self.stem(x))).flatten(1)))
        return scores


def small_cnn(num_classes: int = 10, in_channels: int = 3, width: int = 8) -> nn.Module:
    """A network of 9,000 parameters with what real ones have (batch norm, a shortcut, dropout, a linear head), to try
    plugins and recipes on. There are no weights for it."""
    return SmallCNN(num_classes, in_channels, width)
