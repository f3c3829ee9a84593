// Takes callbacks and verifies who sent them, in Node 18 or later, with nothing to install.
//
//   CALLBACK_SECRETS=whsec_... PORT=8000 node callbacks.mjs
//
// In production the package `standardwebhooks` verifies the same; HTTPS is your proxy's.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

// While a secret is changed there are two, separated by a comma: one that fits will do.
const given = (process.env.CALLBACK_SECRETS ?? "").split(",");
const secrets = given.map((secret) => Buffer.from(secret.replace("whsec_", ""), "base64"));
if (secrets.some((secret) => secret.length < 24)) { // anybody can sign with an empty one
  console.error("CALLBACK_SECRETS: write whsec_ and base64 of 24 to 64 bytes, as the reconciler has it");
  process.exit(2);
}

// Throws unless `body`, as the bytes that came, was signed with one of our secrets just now.
function verify(headers, body) {
  const id = headers["webhook-id"], timestamp = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) < 300)) throw new Error("not of now");
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  const given = (headers["webhook-signature"] ?? "").split(" ").filter((one) => one.startsWith("v1,"));
  const fits = secrets.some((secret) => {
    const ours = createHmac("sha256", secret).update(signed).digest();
    return given.some((one) => {
      const theirs = Buffer.from(one.slice(3), "base64");
      return theirs.length === ours.length && timingSafeEqual(theirs, ours);
    });
  });
  if (!fits) throw new Error("not signed by the reconciler");
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  try {
    verify(request.headers, body);
  } catch (error) {
    return response.writeHead(401).end(error.message);
  }
  const event = JSON.parse(body);
  // Comes at least once: keep ids and seqs as merchant.mjs does. Answer once the event is safe with you.
  console.log(`${event.type} ${event.data.paymentRequestId}`);
  response.writeHead(204).end();
});
server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => console.log("listening"));
