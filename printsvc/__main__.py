"""`python -m printsvc` is `printsvc`."""

from printsvc.cli import main

if __name__ == "__main__":
    main()
