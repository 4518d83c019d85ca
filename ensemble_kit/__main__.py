"""`python -m ensemble_kit` is `ens`."""

from ensemble_kit.cli import main

if __name__ == "__main__":
    main()
