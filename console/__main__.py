"""`python -m console` is `guardian`."""

from console.cli import main

if __name__ == "__main__":
    main()
