"""How `bridge bench plan` shows a plan."""

from benchmark.console import say, table
from benchmark.planning import Plan
from benchmark.tui.wording import plural


def show_plan(plan: Plan, every_task: bool = False) -> None:
    """Print a plan: sizes, a row a phase, and with `every_task` a row a task."""
    cells, tasks = len(plan.graph.cells), len(plan.tasks)
    cached = tasks - plan.num_to_run
    sizes = f"{plural(cells, 'cell')}, {plural(tasks, 'task')}"
    say(f"{plan.graph.suite}: {sizes}: {cached} cached, {plan.num_to_run} to run")
    say(f"without sharing there were {plan.sharing:.1f} times as many tasks")
    rows = [
        (
            phase.phase,
            phase.num_tasks,
            f"{phase.num_uses / phase.num_tasks:.1f}",
            phase.num_cached,
            phase.num_tasks - phase.num_cached,
            ", ".join(f"{reason} ({count})" for reason, count in phase.reasons.most_common()),
        )
        for phase in plan.phases()
    ]
    table(("phase", "tasks", "cells each", "cached", "to run", "why"), rows)
    if every_task:
        table(
            ("key", "phase", "cells", "state"),
            [(each.task.key[:16], each.task.phase, each.num_cells, each.reason) for each in plan.tasks],
        )
