"""``python -m d2serve.server.kserve``: what ``d2serve kserve`` does, where only servers are."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from d2serve.client.errors import ClientError
from d2serve.server.kserve.serving import HELP, Settings, serve, tell


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser("python -m d2serve.server.kserve", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="[NAME=]FILE.mar", help=HELP["models"])
    parser.add_argument("--name", help=HELP["name"])
    for each in fields(Settings):
        option, kind = f"--{each.name.replace('_', '-')}", type(each.default)
        parser.add_argument(option, type=kind, default=each.default, help=HELP[each.name])
    given = vars(parser.parse_args())
    models, name = given.pop("models"), given.pop("name")
    try:
        serve(models, name, Settings(**given), tell)
    except ClientError as error:
        sys.exit(f"Not served. {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"Not served. {error}. Install it: pip install 'd2serve[kserve]'")


if __name__ == "__main__":
    main()
