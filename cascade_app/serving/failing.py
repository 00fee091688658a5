"""What a request is answered with when answering it fails: a sentence with its reference in the log, never a traceback.

The outermost of our middleware. A full disk, which uploads meet first, is 507; anything else is a bug, and 500. Where the answer
had begun already it is cut off, and the log alone says why. Knows nothing of what was asked for.
"""

from __future__ import annotations

import errno
import logging

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade_app.logs import noted

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_log = logging.getLogger(__name__)


class Failing:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:  # there is nobody left to be answered
            return
        except Exception as error:
            reference = noted(error, _log)
            if scope["type"] != "http" or begun:
                return
            full = isinstance(error, OSError) and error.errno in _FULL
            sentence = "The server's disk is full; try again later" if full else "Something went wrong; please try again"
            answer = JSONResponse({"error": f"{sentence} (reference {reference})."}, 507 if full else 500)
            await answer(scope, receive, send)
