"""The application for ``serve run``, for a configuration of Ray Serve, KubeRay and SageMaker.

    serve run d2serve.server.ray_serve.app:build archives=shapes.mar,faces.mar replicas=1:4

Ray looks at the annotation of ``build`` itself, so annotations are no text here.
"""

from typing import Any, Optional, Union

from pydantic import BaseModel, ConfigDict

from d2serve.server.ray_serve.deployments import whole_application
from d2serve.server.ray_serve.settings import Replicas, Settings, read_models

_DEFAULT = Settings()


class Arguments(BaseModel):
    """What an application is built of."""

    model_config = ConfigDict(extra="forbid")

    archives: Union[str, list[str]]
    """FILE.mar or NAME=FILE.mar each: a list, or with commas between them."""
    replicas: Union[int, str] = "1"
    """Of each model: ``2``, or ``1:10`` to follow the load."""
    cpus_per_replica: float = _DEFAULT.cpus_per_replica
    gpus_per_replica: float = _DEFAULT.gpus_per_replica
    batching: Optional[str] = _DEFAULT.batching
    batch_size: int = _DEFAULT.batch_size
    answer_seconds: float = _DEFAULT.answer_seconds
    drain_seconds: float = _DEFAULT.drain_seconds

    def settings(self) -> Settings:
        """
        Raises:
            WrongSettings: a value that cannot be.
        """
        values = self.model_dump(exclude={"archives", "replicas"})
        return Settings(replicas=Replicas.parse(str(self.replicas)), **values)


def build(arguments: Arguments) -> Any:
    """The application of Ray Serve.

    Raises:
        WrongSettings: what is asked for cannot be served.
        LoadError: an archive cannot.
    """
    archives, settings = arguments.archives, arguments.settings()
    listed = archives.split(",") if isinstance(archives, str) else archives
    return whole_application(read_models(listed, settings), settings)
