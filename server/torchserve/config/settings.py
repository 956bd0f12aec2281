"""The settings of a server that is started here, and the files that they are written to.

They are the user's configuration with a few settings replaced. The files lie in the server's
private directory, where a path that was relative to the user's directory would lead nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.config.metrics_file import FILE_NAME as METRICS_FILE
from d2serve.server.torchserve.config.metrics_file import metrics_file
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import (
    CONFIG_PROPERTIES,
    format_properties,
    read_properties,
    safe_defaults,
)

CONFIG_FILE = "config.properties"
_METRICS = "metrics_config"


def server_settings(
    config: Path | None,
    overrides: Mapping[str, str],
    ports: Ports,
    token_auth: bool | None = None,
    enable_model_api: bool | None = None,
) -> dict[str, str]:
    """The settings of a server.

    Args:
        config: a config.properties to start from; None means this package's safe defaults.
        overrides: settings that replace those.
        ports: of the server.
        token_auth, enable_model_api: None leaves either as it is.

    Raises:
        ServerStartError: the file cannot be read, or names a metrics file that is not there.
    """
    settings = safe_defaults() if config is None else read_properties(config)
    settings.pop("model_snapshot", None)  # would win over the models asked for
    settings.update(overrides)
    if config is not None or _METRICS in overrides:
        settings.update(_found_metrics(settings.get(_METRICS), config))
    settings.update(ports.settings())
    if token_auth is not None:
        settings["disable_token_authorization"] = str(not token_auth).lower()
    if enable_model_api is not None:
        settings["enable_model_api"] = str(enable_model_api).lower()
    return settings


def write_settings(settings: Mapping[str, str], directory: Path) -> Path:
    """Write a server's config.properties, and beside it the metrics file where it is ours."""
    written = dict(settings)
    if _METRICS in written and not Path(written[_METRICS]).is_absolute():
        file = directory / METRICS_FILE
        file.write_text(metrics_file(), encoding="ascii")
        written[_METRICS] = str(file)
    config = directory / CONFIG_FILE
    config.write_text(format_properties(written), encoding="ascii")
    return config


def missing_metrics_file(config: Path) -> str | None:
    """Why no worker would start with a config.properties, and what to do; None where they would.

    Raises:
        ServerStartError: it cannot be read.
    """
    settings = read_properties(config)
    try:
        _found_metrics(settings.get(_METRICS), config)
    except ServerStartError as error:
        return str(error)
    return None


def _found_metrics(given: str | None, config: Path | None) -> dict[str, str]:
    """A metrics file as TorchServe finds it, from the working directory, otherwise
    beside the config."""
    if given is None:
        return {}
    candidates = [Path(given)] if config is None else [Path(given), config.parent / given]
    for candidate in candidates:
        if candidate.is_file():
            return {_METRICS: str(candidate.resolve())}
    looked = " or ".join(str(each) for each in dict.fromkeys(candidates))
    raise ServerStartError(
        f"There is no metrics file {given} (looked for {looked}), and no worker starts without the "
        f"one that is named. Correct {_METRICS} in config.properties, or remove it together with "
        f"metrics_mode; d2serve's own is {CONFIG_PROPERTIES.with_name(METRICS_FILE)}"
    )
