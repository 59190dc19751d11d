"""Modal's API as far as scripts/deployment asks it: gRPC on loopback, spoken by Modal's own client and command.

with FakeModal(apps=["ragzero-embed"], volumes=["ragzero-weights"]) as modal:
    modal.variables      what Modal's client finds in its environment
    modal.stopped        names of apps, in the order in which they were stopped
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpclib
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Server
from modal_proto import api_pb2 as api

from scripts.local.process import free_port

TOKEN = {"MODAL_TOKEN_ID": "ak-nobody", "MODAL_TOKEN_SECRET": "as-nothing"}
DOOR = "https://nobody--ragzero-embed-door.modal.run"
GENERATE = "https://nobody--ragzero-generate-generate-serve.modal.run"


class FakeModal:
    def __init__(self, apps: Sequence[str] = (), volumes: Sequence[str] = ()) -> None:
        self.apps = list(apps)
        self.volumes = list(volumes)
        self.stopped: list[str] = []
        self._port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def variables(self) -> dict[str, str]:
        return {"MODAL_SERVER_URL": f"http://127.0.0.1:{self._port}", **TOKEN}

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = Server([self])
        await self._server.start("127.0.0.1", self._port)

    async def _end(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/modal.client.ModalClient/{name}": Handler(
                _answering(answer), Cardinality.UNARY_UNARY, asked, told
            )
            for name, answer, asked, told in (
                ("ClientHello", self._hello, Empty, api.ClientHelloResponse),
                ("AppList", self._app_list, api.AppListRequest, api.AppListResponse),
                (
                    "AppGetByDeploymentName",
                    self._app_get,
                    api.AppGetByDeploymentNameRequest,
                    api.AppGetByDeploymentNameResponse,
                ),
                ("AppStop", self._app_stop, api.AppStopRequest, Empty),
                ("VolumeList", self._volume_list, api.VolumeListRequest, api.VolumeListResponse),
                ("FunctionGet", self._function_get, api.FunctionGetRequest, api.FunctionGetResponse),
                ("ClassGet", self._class_get, api.ClassGetRequest, api.ClassGetResponse),
            )
        }

    def _hello(self, _asked: Any) -> Any:
        return api.ClientHelloResponse()

    def _app_list(self, _asked: Any) -> Any:
        deployed = [(name, api.APP_STATE_DEPLOYED) for name in self.apps]
        stopped = [(name, api.APP_STATE_STOPPED) for name in self.stopped]
        return api.AppListResponse(
            apps=[
                api.AppListResponse.AppListItem(app_id=_id("ap", name), description=name, state=state)
                for name, state in (*deployed, *stopped)
            ]
        )

    def _app_get(self, asked: Any) -> Any:
        there = asked.name in self.apps
        return api.AppGetByDeploymentNameResponse(
            app_id=_id("ap", asked.name) if there else "",
            environment_name=asked.environment_name,
            lifecycle=api.AppLifecycle(app_state=api.APP_STATE_DEPLOYED),
        )

    def _app_stop(self, asked: Any) -> Any:
        (name,) = (name for name in self.apps if _id("ap", name) == asked.app_id)
        self.apps.remove(name)
        self.stopped.append(name)
        return Empty()

    def _volume_list(self, asked: Any) -> Any:
        items = [
            api.VolumeListItem(label=name, volume_id=_id("vo", name), metadata=api.VolumeMetadata(name=name))
            for name in self.volumes
        ]
        return api.VolumeListResponse(items=items, environment_name=asked.environment_name)

    def _function_get(self, asked: Any) -> Any:
        web = {"door": DOOR}.get(asked.object_tag, "")
        serve = api.FunctionHandleMetadata(
            function_name="Generate.serve", use_method_name="serve", is_method=True, web_url=GENERATE
        )
        told = api.FunctionHandleMetadata(
            function_name=asked.object_tag, web_url=web, method_handle_metadata={"serve": serve}
        )
        function = api.FunctionData(
            ranked_functions=[api.FunctionData.RankedFunction(function=api.Function())]
        )
        return api.FunctionGetResponse(
            function_id=_id("fu", asked.object_tag), handle_metadata=told, function=function
        )

    def _class_get(self, asked: Any) -> Any:
        return api.ClassGetResponse(class_id=_id("cs", asked.object_tag))


def _id(kind: str, name: str) -> str:
    """Modal's ids have 22 letters and digits behind the kind."""
    return f"{kind}-{''.join(filter(str.isalnum, name)):0<22}"


def _answering(answer: Callable[[Any], Any]) -> Callable[[Any], Awaitable[None]]:
    async def respond(stream: Any) -> None:
        asked = await stream.recv_message()
        if stream.metadata.get("x-modal-token-id") != TOKEN["MODAL_TOKEN_ID"]:
            raise grpclib.GRPCError(Status.UNAUTHENTICATED, "Token missing")
        await stream.send_message(answer(asked))

    return respond
