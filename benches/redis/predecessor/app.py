"""A reference of the predecessor: what its routes do, as little as that takes, on the stack it ran on.

It issues a token with a UUID and a SETEX, and introspects one with a GET, on the blocking client with the options that its
guide prescribes. It signs nothing, revokes nothing and counts nothing.
"""

import hmac
import logging
import os
import time
import uuid
from datetime import UTC, datetime, timedelta

import redis
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

PRINCIPAL = os.environ["VX11_PRINCIPAL_TOKEN"]
LIFE = int(os.environ["EPHEMERAL_TOKEN_TTL_SEC"])

app = FastAPI()
logger = logging.getLogger("operator")
store = redis.StrictRedis(
    host=os.environ["REDIS_HOST"],
    port=int(os.environ["REDIS_PORT"]),
    db=1,
    decode_responses=True,
    socket_connect_timeout=5,
    socket_keepalive=True,
    health_check_interval=10,
)


class Presented(BaseModel):
    token: str


async def authenticated(x_vx11_token: str = Header()) -> None:
    if not hmac.compare_digest(x_vx11_token, PRINCIPAL):
        raise HTTPException(status_code=401)


@app.post("/operator/api/events/sse-token", dependencies=[Depends(authenticated)])
async def issue() -> dict[str, str | int]:
    token = str(uuid.uuid4())
    store.setex(f"token:{token}", LIFE, str(time.time()))
    logger.debug("issued a token that lives %s s", LIFE)
    expires_at = datetime.now(UTC) + timedelta(seconds=LIFE)
    return {
        "sse_token": token,
        "token_id": token[:16],
        "expires_in": LIFE,
        "expires_at": expires_at.isoformat(),
        "instance_id": "1",
        "backend": "redis",
    }


@app.post("/operator/api/tokens/introspect", dependencies=[Depends(authenticated)])
async def introspect(presented: Presented) -> dict[str, str | bool]:
    issued_at = store.get(f"token:{presented.token}")
    if issued_at is None or time.time() - float(issued_at) > LIFE:
        return {"active": False}
    return {"active": True, "sub": "operator", "token_type": "sse"}
