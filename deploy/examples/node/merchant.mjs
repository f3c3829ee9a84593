// A merchant beside the reconciler, in Node 18 or later, with nothing to install.
//
// In production use the npm package `redis` or `ioredis` in place of the client below; the commands are
// the same.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";

const USAGE = `node merchant.mjs track order-4711 USD 599    have a payment of USD 5.99 followed
node merchant.mjs outcomes [shop-1]           hear how payments end, for ever`;

const COMMANDS = "reconciler:v1:commands", OUTCOMES = "reconciler:v1:outcomes", GROUP = "shop";

// Write before or right after you call pay; to write it twice is safe.
async function track(paymentRequestId, currency, value) {
  const data = { paymentRequestId, paymentAmount: { currency, value }, expiresIn: 600 };
  console.log(await redis("XADD", COMMANDS, "*", "type", "payment.track", "data", JSON.stringify(data)));
}

// What you read is yours until you acknowledge it: after a restart under the same name it comes
// first. What another reader left lying for a minute is taken over.
async function outcomes(me = "shop-1") {
  await redis("XGROUP", "CREATE", OUTCOMES, GROUP, "0", "MKSTREAM").catch((error) => {
    if (!error.message.startsWith("BUSYGROUP")) throw error; // BUSYGROUP: it is there
  });
  for (;;) {
    await redis("XAUTOCLAIM", OUTCOMES, GROUP, me, 60000, "0", "JUSTID");
    const read = ["XREADGROUP", "GROUP", GROUP, me, "COUNT", 100];
    let [[, entries]] = await redis(...read, "STREAMS", OUTCOMES, "0");
    if (!entries.length) // null: nothing new for five seconds
      [[, entries]] = (await redis(...read, "BLOCK", 5000, "STREAMS", OUTCOMES, ">")) ?? [[, []]];
    for (const [entryId, fields] of entries) {
      if (fields) once(JSON.parse(fields[fields.indexOf("data") + 1])); // null: trimmed meanwhile
      await redis("XACK", OUTCOMES, GROUP, entryId);
    }
  }
}

// Events come at least once. Your database keeps their ids and seqs, and writes them in the transaction
// that changes the order; here a file stands for it.
const BOOK = process.env.BOOK ?? "outcomes.tsv";

function once({ id, type, data }) {
  const payment = `${data.clientId}:${data.paymentRequestId}`;
  const seq = data.seq ?? ""; // command.rejected has none
  const lines = existsSync(BOOK) ? readFileSync(BOOK, "utf8").trimEnd().split("\n") : [];
  for (const [seenId, ofPayment, seenSeq] of lines.map((line) => line.split("\t")))
    if (seenId === id || (ofPayment === payment && seq !== "" && seq <= Number(seenSeq))) return;
  handle(type, data);
  appendFileSync(BOOK, `${id}\t${payment}\t${seq}\n`);
}

function handle(type, { paymentRequestId, redirectUrl, kind, reason, message }) {
  const what = {
    "payment.succeeded": "deliver",
    "payment.failed": "do not deliver",
    "payment.cancelled": "do not deliver",
    "payment.cancelling": "do not deliver, the final word follows",
    "payment.submitted": `send the buyer to ${redirectUrl}`,
    "payment.unresolved": `a person must look: ${reason}`,
    "payment.attention": `a person must look: ${kind}`,
    "command.rejected": `mend the program: ${reason}, ${message}`,
  };
  console.log(`${type} ${paymentRequestId}: ${what[type] ?? "nothing to do"}`);
}

// ---- a small Redis client ----------------------------------------------------------------------
// One command, one answer. A lost connection ends the program; whoever started it starts it again.
const SAFE = "(?:[^%@/?#]|%[0-9a-f]{2})*"; // all else is percent-encoded
const PARTS = new RegExp(`^redis://(?:(${SAFE}?):(${SAFE})@)?(\\[.+\\]|[^:@/?#]+)(?::(\\d+))?(?:/(\\d*))?$`, "i");
const waiting = [];
let socket, buffer = Buffer.alloc(0), at = 0, done = false;

class Refused extends Error {}

async function open(url) {
  const parts = PARTS.exec(url);
  if (!parts) stop("REDIS_URL: write redis://user:password@host:6379/0 (TLS, rediss://, is for a real client)", 2);
  const [, user, password, host, port, database] = parts;
  socket = connect(Number(port ?? 6379), host.replace(/^\[|\]$/g, ""));
  socket.on("error", (error) => stop(`Redis: ${error.message}`, 1));
  socket.on("close", () => process.exit(done ? 0 : 1));
  socket.on("data", take);
  if (password !== undefined) await redis("AUTH", decodeURIComponent(user) || "default", decodeURIComponent(password));
  if (Number(database)) await redis("SELECT", database);
}

function stop(why, code) {
  console.error(why);
  process.exit(code);
}

function redis(...words) {
  const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
  socket.write(`*${words.length}\r\n${parts.join("")}`);
  return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
}

function answer() { // RESP 2; undefined while it is not whole
  const end = buffer.indexOf("\r\n", at);
  if (end < 0) return undefined;
  const kind = String.fromCharCode(buffer[at]), head = buffer.toString("utf8", at + 1, end);
  at = end + 2;
  if (head === "-1") return null;
  if (kind === "$") {
    const from = at;
    at += Number(head) + 2;
    return at <= buffer.length ? buffer.toString("utf8", from, at - 2) : undefined;
  }
  if (kind !== "*") return kind === "-" ? new Refused(head) : head;
  const items = Array.from({ length: Number(head) }, answer);
  return items.includes(undefined) ? undefined : items;
}

function take(chunk) {
  buffer = Buffer.concat([buffer, chunk]);
  for (let said; (at = 0), (said = answer()) !== undefined; buffer = buffer.subarray(at)) {
    const { resolve, reject } = waiting.shift();
    said instanceof Error ? reject(said) : resolve(said);
  }
}

const [, , verb, ...words] = process.argv;
const tracks = verb === "track" && words.length === 3, listens = verb === "outcomes" && words.length < 2;
if (!tracks && !listens) stop(USAGE, 2);
try {
  await open(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");
  await (tracks ? track : outcomes)(...words);
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  stop(`Redis: ${error.message}`, 1);
}
done = true;
socket.end();
