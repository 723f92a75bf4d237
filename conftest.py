"""Prints, after notebooks were run under nbval, the seconds that each of them took."""
from collections import defaultdict

BUDGET = 60  # seconds, on two CPU cores


def pytest_terminal_summary(terminalreporter):
    seconds = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            path = getattr(report, "nodeid", "").split("::")[0]
            if path.endswith(".ipynb"):
                seconds[path] += getattr(report, "duration", 0.0)
    if seconds:
        terminalreporter.section("seconds per notebook")
    for path, total in sorted(seconds.items()):
        terminalreporter.write_line(f"{total:6.1f}  {path}" + (f"  (over {BUDGET} s)" if total > BUDGET else ""))
