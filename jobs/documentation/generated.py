"""The pages that the code tells of itself."""

from jobs.cli import make_parser
from jobs.documentation import commands_page, errors_page, settings_page
from pipeline.config import JobConfig
from serving.config import ServeConfig


def generated() -> dict[str, str]:
    """All of them, by their place on the site."""
    job = "In YAML by `--config`, one by one by `--set name=value`. An unknown key is an error."
    return {
        "reference/COMMANDS.md": commands_page.rendered(
            make_parser(), "What `sgl --help` says, in one place."
        ),
        "reference/JOB_SETTINGS.md": settings_page.rendered(
            "All settings of a job",
            f"Of `sgl run`, `sgl calibrate` and `sgl evaluate`. {job} Those that matter most: "
            "[Settings](../SETTINGS.md).",
            settings_page.group_of(JobConfig),
        ),
        "reference/ENDPOINT_SETTINGS.md": settings_page.rendered(
            "All settings of the endpoint",
            f"Of `sgl serve`. {job} Those that matter most: [The endpoint](../SERVING.md).",
            settings_page.group_of(ServeConfig),
        ),
        "reference/ERRORS.md": errors_page.rendered(
            "Every class of error, what it says and what to do. The message itself names the "
            "setting, the file or the record. What you see and what it means, by symptom: "
            "[Operations](../OPERATIONS.md)."
        ),
    }
