"""What a user of the reports can cause."""


class ReportError(Exception):
    """Found, wanted, remedy: one line for a person, and an exit code for a script (2: the request itself is wrong)."""

    def __init__(self, found: str, wanted: str = "", remedy: str = "", exit_code: int = 1) -> None:
        self.found, self.wanted, self.remedy, self.exit_code = found, wanted, remedy, exit_code
        super().__init__(found, wanted, remedy)

    def __str__(self) -> str:
        wanted = f"; wanted {self.wanted}" if self.wanted else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return " ".join(f"{self.found}{wanted}{remedy}".split())
