"""Asks a running server what its own document says can be asked, rightly and wrongly, and compares the answers with it.

Run by `crates/mos-server/tests/it/schema_check.rs`, or by hand: `schema_check.py URL [KEY]`. Ends with 0 when no answer is an
error inside the server and every status, content type and body is one that the document knows; with 1 and a report on
standard output when one is not; with 3 where `schemathesis` is not installed.
"""

import sys

# The exit code that says that nothing can be compared here.
NOT_INSTALLED = 3

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]

# How many random requests each operation gets besides those at the edges of what is allowed.
EXAMPLES = 10


def main(arguments):
    try:
        from schemathesis.cli import schemathesis
    except ImportError:
        return NOT_INSTALLED
    url, *key = arguments
    options = [
        "run",
        f"{url}/openapi.json",
        "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(EXAMPLES),
        "--generation-deterministic",
        "--suppress-health-check", "all",
        "--warnings", "off",
        "--request-timeout", "60",
        "--continue-on-failure",
        "--no-color",
    ]
    for one in key:
        options += ["--header", f"Authorization: Bearer {one}"]
    # Ends the program with 0, or with 1 when something differs.
    schemathesis(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
