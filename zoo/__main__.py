"""`python -m zoo` is `zoo`: what `torchrun -m zoo` and `accelerate launch -m zoo` run."""

from zoo.cli import main

if __name__ == "__main__":
    main()
