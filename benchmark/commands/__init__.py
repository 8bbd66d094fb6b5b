"""The sub-commands of `bridge`. They import typer; all that is heavy is imported inside the commands."""
