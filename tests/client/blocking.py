"""The asynchronous client behind the methods of the others, for tests that are about all."""

from __future__ import annotations

import asyncio
from typing import Any, Union

from d2serve.client.predict.async_client import AsyncD2ServeClient
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.client.results.prediction import Prediction


class BlockingAsyncClient:
    """With one event loop for each call."""

    def __init__(self, address: str, **settings: Any) -> None:
        self._address, self._settings = address, settings

    def predict(self, *arguments: Any, **options: Any) -> Prediction:
        prediction = self._asked("predict", arguments, options)
        assert isinstance(prediction, Prediction)
        return prediction

    def predict_picture(self, *arguments: Any, **options: Any) -> bytes:
        picture = self._asked("predict_picture", arguments, options)
        assert isinstance(picture, bytes)
        return picture

    def _asked(self, method: str, arguments: Any, options: Any) -> Any:
        async def ask() -> Any:
            async with AsyncD2ServeClient(self._address, **self._settings) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(ask())


AnyClient = Union[D2ServeClient, D2ServeGrpcClient, BlockingAsyncClient]
