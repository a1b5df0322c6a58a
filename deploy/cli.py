"""The command `headwater`: its settings, its exit codes. The verbs are in the files `cli_*.py`."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import CycloptsError, Parameter
from rich.console import Console

from deploy import cli_bench, cli_evaluate, cli_model, cli_snapshots, cli_streams
from deploy.cli_app import app
from deploy.settings import LayeredConfig, environment, read_layers
from storage.errors import HeadwaterError

__all__ = ["app", "cli_bench", "cli_evaluate", "cli_model", "cli_snapshots", "cli_streams", "main"]


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="Settings file (TOML).", env_var="HEADWATER_CONFIG")] = None,
) -> Any:
    """A recommender that learns from the stream it serves."""
    app.config = (LayeredConfig(read_layers(config, environment())),)
    return app(tokens, exit_on_error=False, result_action="return_value")


def main() -> None:
    """Run a command; wrong input and set-ups and models that cannot work end with one line and exit code 2."""
    try:
        code = app.meta(exit_on_error=False, result_action="return_value")
    except KeyboardInterrupt:
        sys.exit(130)
    except CycloptsError:
        sys.exit(2)
    except (ValueError, FloatingPointError, HeadwaterError) as error:
        Console(stderr=True).print(f"headwater: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
