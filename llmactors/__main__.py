"""`python -m llmactors`."""

from llmactors.cli import main

if __name__ == "__main__":
    main()
