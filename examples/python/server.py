"""A service that takes bearer tokens, with PyJWT."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

# It fetches the key set for a key that it does not know, but not within 5 s of the last time; PyJWT's own default is 30 s.
keys = jwt.PyJWKClient(os.environ["JWKS_URL"], cooldown_duration=5)


def status(path, authorization):
    if path == "/healthz":
        return 204
    token = authorization.removeprefix("Bearer ")
    try:
        key = keys.get_signing_key_from_jwt(token)
        jwt.decode(token, key, ["RS256"], issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"])
        return 200
    except jwt.PyJWKClientConnectionError:
        return 503
    except (jwt.InvalidTokenError, jwt.PyJWKClientError):
        return 401


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(status(self.path, self.headers.get("authorization", "")))
        self.send_header("content-length", "0")
        self.end_headers()


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
