"""``python -m edgedense``: what ``torchrun … -m edgedense`` starts in each process."""

from edgedense.cli import main

if __name__ == "__main__":
    main()
