"""python -m dit_client: the command line."""

from dit_client.cli.main import main

if __name__ == "__main__":
    main()
