"""The server of the page: it shows, and changes nothing.

Who has not the token of this run gets nothing. What asks by a foreign name is refused too: a page of somebody else could let
its own name point here (DNS rebinding).
"""

import asyncio
import ipaddress
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from importlib.resources import files

import msgspec
import uvicorn
from blendtorch.btt.viewing.description import describe
from blendtorch.btt.viewing.pictures import encode
from blendtorch.btt.viewing.source import Source, Status
from blendtorch.btt.viewing.views import views_of
from blendtorch.core.errors import AddressError, BlendtorchError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGE = {
    "index.html": "text/html",
    "icon.svg": "image/svg+xml",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "stage.js": "text/javascript",
    "panels.js": "text/javascript",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the URL
    "Cache-Control": "no-store",  # the next run has other samples under the same names
}
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::[0-9]+)?")
_EVERY_S = 0.4


class PageServer:
    """Serves the page of a source, until it is interrupted.

    Parameters
    ----------
    source : Source
    host : str
        Where to listen.
    port : int
        0 for a free one.

    Attributes
    ----------
    url : str
        With the token.

    Raises
    ------
    AddressError
        If it cannot listen there.
    """

    def __init__(self, source: Source, host: str = "127.0.0.1", port: int = 0) -> None:
        self._source = source
        self._token = secrets.token_urlsafe(24)
        self._socket = _listen(host, port)
        port = self._socket.getsockname()[1]
        address = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{port}/?token={self._token}"
        names = {"localhost", host.lower(), socket.gethostname().lower()}
        routes = [
            Route("/", self._page),
            Route("/page/{name}", self._page),
            Route("/about", self._about),
            Route("/events", self._events),
            Route("/samples/{number:int}", self._sample),
            Route("/samples/{number:int}/{view:int}/{name:path}", self._picture),
        ]
        app = _Guard(Starlette(routes=routes), names, self._token, f"blendtorch_{port}")
        options = {"log_level": "warning", "access_log": False, "server_header": False, "timeout_graceful_shutdown": 1}
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **options))  # type: ignore[arg-type]

    def run(self) -> None:
        """Serve, until Ctrl-C, SIGTERM or `stop`; signals are raised again afterwards."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True

    def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in _PAGE:
            return PlainTextResponse("there is no such file", 404)
        content = files(__package__).joinpath("page", name).read_bytes()
        return Response(content, media_type=_PAGE[name])

    def _about(self, request: Request) -> Response:  # noqa: ARG002 - as starlette calls it
        return _json({"title": self._source.title, "notice": self._source.notice})

    def _sample(self, request: Request) -> Response:
        def answer() -> Response:
            number = request.path_params["number"]
            return _json(describe(number, self._source.sample(number), self._source.categories))

        return _answered(answer)

    def _picture(self, request: Request) -> Response:
        def answer() -> Response:
            views = views_of(self._source.sample(request.path_params["number"]))
            content, media_type = encode(views[request.path_params["view"]], request.path_params["name"])
            return Response(content, media_type=media_type)

        return _answered(answer)

    async def _events(self, request: Request) -> Response:  # noqa: ARG002 - as starlette calls it
        async def events() -> AsyncIterator[bytes]:
            status = Status(state="waiting", first=0, end=0, total=0, per_s=0.0)
            while not self._server.should_exit:
                try:
                    status = await asyncio.to_thread(self._source.status)  # it may read files
                except (BlendtorchError, OSError) as error:  # what is known already can still be looked at
                    status = msgspec.structs.replace(status, state="failed", problem=str(error))
                yield b"data: " + msgspec.json.encode(status) + b"\n\n"
                await asyncio.sleep(_EVERY_S)

        return StreamingResponse(events(), media_type="text/event-stream")


class _Guard:
    """Refuses foreign hosts, wrong tokens, and whatever is more than a look; adds headers."""

    def __init__(self, app: ASGIApp, names: set[str], token: str, cookie: str) -> None:
        self._app, self._names, self._token, self._cookie = app, names, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)
        given = request.query_params.get("token", "")
        headers = dict(_HEADERS)
        if not self._is_ours(request.headers.get("host", "")):
            refusal = PlainTextResponse("This page is not served by that name.", 421)
        elif request.method not in ("GET", "HEAD"):
            refusal = PlainTextResponse("This page only shows.", 405)
        elif not any(_equal(each, self._token) for each in (given, request.cookies.get(self._cookie, ""))):
            refusal = PlainTextResponse("Open the address that blendtorch view has printed: it has a token.", 403)
        else:
            refusal = None
            if given:
                headers["Set-Cookie"] = f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _is_ours(self, header: str) -> bool:
        """Whether it is asked by a name of its own; a number is no name that somebody could let point here."""
        match = _HOST.fullmatch(header)
        host = (match[1] or match[2]).lower() if match else ""
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return host in self._names


def _answered(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except LookupError:  # not kept any more, which is no error: a browser would report one
        return Response(status_code=204)
    except (BlendtorchError, OSError) as error:
        return PlainTextResponse(str(error), 500)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:  # the C library would take the rest of a division
        raise AddressError(f"port {port}: expected 0 to 65535")
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen()
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise AddressError(f"cannot listen on {host}:{port}: {error}; choose another --port, or 0 for a free one") from None
    return listening
