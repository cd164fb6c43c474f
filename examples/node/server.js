// A service that takes bearer tokens, with jose.
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { PORT, ISSUER, JWKS_URL, AUDIENCE } = process.env;

// It fetches the key set for a key that it does not know, but not within 30 s of the last time.
const keys = createRemoteJWKSet(new URL(JWKS_URL));

// What is wrong with a token; all else that goes wrong is not the client's fault.
const REFUSED = /^ERR_(JWT|JWS|JWKS_NO_MATCHING_KEY|JOSE_ALG|JOSE_NOT)/;

const server = createServer(async (request, response) => {
  if (request.url === "/healthz") return response.writeHead(204).end();
  const token = request.headers.authorization?.match(/^Bearer +(\S+)$/i)?.[1] ?? "";
  try {
    const { payload } = await jwtVerify(token, keys, { issuer: ISSUER, audience: AUDIENCE });
    response.writeHead(200).end(`hello ${payload.sub}\n`);
  } catch (error) {
    response.writeHead(REFUSED.test(error.code) ? 401 : 503).end(`${error.code}\n`);
  }
});

server.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on ${PORT}`));
process.on("SIGTERM", () => server.close());
