"""The labelling page over HTTP, for whoever has the token.

Every request but that for the page itself brings the token in its `Authorization` header, which no
other site can add; what comes from another site is refused besides. Bodies are JSON, small, and
checked field by field. Errors are one line of JSON. The store is used in the thread of the event
loop alone; clips are drawn in another.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlentropy.errors import InputError, OutputError
from rlentropy.page import bodies
from rlentropy.page.clips import Clip
from rlentropy.page.desk import AHEAD, Desk, Refused
from rlentropy.page.rendering import Draw, Rendering

PAGE = Path(__file__).with_name("page.html")
SLOWEST = 30.0  # seconds that a clip may take
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def application(desk: Callable[[], Desk], draw: Draw, token: str) -> ASGIApp:
    """The server of one campaign.

    Args:
        desk: called in the thread of the event loop, which alone uses it.
        draw: makes the clip of a segment's hash, in a thread of its own.
        token: what every request must bring.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.desk = desk()
        app.state.rendering = Rendering(draw)
        app.state.rendering.ahead(app.state.desk.queue.ahead(AHEAD))  # the first take longest
        yield
        app.state.rendering.close()
        app.state.desk.store.close()

    app = Starlette(
        routes=[
            Route("/", shown(PAGE.read_text(encoding="utf-8"))),
            Route("/api/next", next_question, methods=["POST"]),
            Route("/api/answer", take_answer, methods=["POST"]),
            Route("/api/undo", undo, methods=["POST"]),
            Route("/api/clip/{digest}", clip_facts),
            Route("/api/sprite/{digest}", clip_picture),
        ],
        exception_handlers=dict.fromkeys((Refused, HTTPException, InputError, Exception), refusal),
        lifespan=lifespan,
    )
    return Guard(app, token)


# ---------------------------------------------------------------- what is answered


def shown(page: str) -> Endpoint:
    """The page, whose own script and style may run, and no other."""
    headers = {"Content-Security-Policy": policy_of(page)}

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return show


def policy_of(page: str) -> str:
    """A content security policy for a page with inline scripts and styles."""

    def hashes(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        sums = (base64.b64encode(hashlib.sha256(block.encode()).digest()) for block in blocks)
        return " ".join(f"'sha256-{total.decode()}'" for total in sums) or "'none'"

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


async def next_question(request: Request) -> Response:
    who = bodies.who(await bodies.read(request))
    return reply(request, desk_of(request).next(*who))


async def take_answer(request: Request) -> Response:
    body = await bodies.read(request)
    campaign, who, said = bodies.campaign(body), bodies.who(body), bodies.answer(body)
    return reply(request, desk_of(request).answer(campaign, *who, said))


async def undo(request: Request) -> Response:
    body = await bodies.read(request)
    return reply(request, desk_of(request).undo(bodies.campaign(body), *bodies.who(body)))


def desk_of(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found


def reply(request: Request, shown: dict[str, Any]) -> Response:
    """What a window shows; its clips are begun, and those of the next questions."""
    rendering: Rendering = request.app.state.rendering
    if (question := shown["question"]) is not None:
        rendering.ask(question["left"])
        rendering.ask(question["right"])
    rendering.ahead(shown["ahead"])
    return JSONResponse(shown)


async def clip_facts(request: Request) -> Response:
    return JSONResponse((await clip_of(request)).facts)


async def clip_picture(request: Request) -> Response:
    if (png := (await clip_of(request)).png) is None:
        raise Refused(404, "digest must be that of a clip with pictures, got one in words")
    return Response(png, media_type="image/png")


async def clip_of(request: Request) -> Clip:
    digest = request.path_params["digest"]
    if not re.fullmatch("[0-9a-f]{64}", digest) or not desk_of(request).knows(digest):
        raise Refused(404, "digest must be of a segment of this campaign, got another")
    made = asyncio.wrap_future(request.app.state.rendering.ask(digest))
    try:
        return await asyncio.wait_for(asyncio.shield(made), SLOWEST)
    except TimeoutError:
        raise Refused(503, f"a clip must be drawn within {SLOWEST:g} s, got none yet") from None


async def refusal(request: Request, error: Exception) -> Response:
    """One line for whatever went wrong; nothing of our own mistakes but that they happened."""
    if isinstance(error, HTTPException):
        return refused(error.status_code, error.detail)
    if isinstance(error, InputError):
        return refused(507 if isinstance(error, OutputError) else 500, str(error))
    if isinstance(error, Refused):
        return refused(error.status, str(error))
    return refused(500, "the server made a mistake, which its terminal shows")


def refused(status: int, line: str) -> Response:
    return JSONResponse({"error": " ".join(line.split())}, status)


# ---------------------------------------------------------------- who may ask


class Guard:
    """Lets requests with the token in, none from another site; adds headers to what goes out."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if from_elsewhere(scope):
            stop: ASGIApp = refused(403, "requests must come from the page itself")
        elif not self.knows(scope):
            stop = refused(401, "the token must be the one in the address that label printed")
        else:
            stop = self.app
        await stop(scope, receive, answer)

    def knows(self, scope: Scope) -> bool:
        """Whether a request brings the token, compared in constant time."""
        if scope["path"] == "/":
            given = QueryParams(scope["query_string"]).get("token", "")
        else:
            kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            if kind.lower() != "bearer":
                return False
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token)


def from_elsewhere(scope: Scope) -> bool:
    """Whether another site made the browser send a request; a link that is followed is none."""
    headers = Headers(scope=scope)
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return True
    followed = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    return site == "cross-site" and not followed
