"""What TorchServe's management API says of models, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from d2serve.client.errors import MalformedReply


@dataclass(frozen=True)
class Worker:
    """One worker process of a model."""

    id: str
    status: str
    """READY, or UNLOADING: TorchServe's word for loading, stopping and crashed alike."""
    pid: int
    uses_gpu: bool
    memory_bytes: int

    @property
    def is_ready(self) -> bool:
        return self.status == "READY"


@dataclass(frozen=True)
class ModelDescription:
    """One version of a registered model."""

    name: str
    version: str
    url: str
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay: int
    pending_requests: int
    """Those in the queue; TorchServe counts none that a worker is answering."""
    workers: tuple[Worker, ...]
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def is_ready(self) -> bool:
        """Every worker is READY, and there are as many as asked for."""
        ready = sum(worker.is_ready for worker in self.workers)
        return ready == len(self.workers) and ready >= max(1, self.min_workers)


def parse_model_list(answer: Mapping[str, Any], address: str) -> dict[str, str]:
    """The .mar of each model by its name, of one page of a list from this address."""
    try:
        listed = {each["modelName"]: each["modelUrl"] for each in answer["models"]}
        if not all(isinstance(text, str) for pair in listed.items() for text in pair):
            raise TypeError("expected text")
    except (KeyError, TypeError) as error:
        raise MalformedReply(
            f"Got {str(answer)[:200]!r} from GET /models of {address}, expected a list 'models' of "
            "objects with 'modelName' and 'modelUrl'. Is this the management address of a "
            "TorchServe?"
        ) from error
    return listed


def parse_description(item: Mapping[str, Any]) -> ModelDescription:
    """One version of a model, as the management API describes it."""
    try:
        return ModelDescription(
            name=item["modelName"],
            version=item["modelVersion"],
            url=item["modelUrl"],
            min_workers=item["minWorkers"],
            max_workers=item["maxWorkers"],
            batch_size=item["batchSize"],
            max_batch_delay=item["maxBatchDelay"],
            pending_requests=item["jobQueueStatus"]["pendingRequests"],
            workers=tuple(
                Worker(w["id"], w["status"], w["pid"], w["gpu"], w["memoryUsage"])
                for w in item["workers"]
            ),
            raw=dict(item),
        )
    except (KeyError, TypeError) as error:
        raise MalformedReply(f"Not a TorchServe model description ({error}): {item!r}") from error


def parse_metadata(answer: Any) -> Any:
    """What a version's handler said of it, of the answer to ``customized=true``."""
    if not (isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], Mapping)):
        raise MalformedReply(f"Expected a list of one model version, got {str(answer)[:200]!r}")
    return answer[0].get("customizedMetadata")
