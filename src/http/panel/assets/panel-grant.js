// The grant of a token: what the token may open. Anybody who has a token can read its grant, so it
// is read here, without the service. Only the service can tell whether the token is valid.
// docs/token-format.md has the format.

const TOKEN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.([\w-]+))?$/i;
const VERSION = 1;

const text = (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
const moment = (bytes) => new Date(bytes.reduce((ms, byte) => 256 * ms + byte, 0));

/** Texts, each with its length in a byte before it. */
function texts(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; at += 1 + bytes[at]) {
    found.push(text(bytes.subarray(at + 1, at + 1 + bytes[at])));
  }
  return found;
}

/** Fields by number: name and reader. */
const FIELDS = {
  1: ["principal", text],
  2: ["issuedAt", moment],
  3: ["subject", text],
  4: ["topics", texts],
  5: ["streamUntil", moment],
  6: ["singleUse", () => true],
  7: ["resource", text],
};

/**
 * The fields of a token's grant, by name; `null` for a plain token, which has none.
 * @throws Error with a sentence for users, if this is no token or its grant cannot be read.
 */
export function grantOf(token) {
  const [isToken, written] = TOKEN.exec(token) ?? [];
  if (!isToken) throw new Error("This is no token.");
  if (!written) return null;
  const [version, ...rest] = bytesOf(written);
  if (version !== VERSION) throw new Error("The grant of this token has a version that this panel does not know.");
  try {
    return fieldsOf(Uint8Array.from(rest));
  } catch {
    throw new Error("The grant of this token is damaged.");
  }
}

/** Decodes base64url. */
function bytesOf(written) {
  try {
    const characters = atob(written.replaceAll("-", "+").replaceAll("_", "/"));
    return Array.from(characters, (character) => character.charCodeAt(0));
  } catch {
    throw new Error("The grant of this token is damaged.");
  }
}

/** Reads fields: number, length in two bytes, value. */
function fieldsOf(bytes) {
  const grant = {};
  let rest = bytes;
  while (rest.length > 0) {
    const [number, high, low] = rest;
    const end = 3 + 256 * high + low;
    const [name, read] = FIELDS[number];
    if (!(end <= rest.length)) throw new Error("cut off");
    grant[name] = read(rest.subarray(3, end));
    rest = rest.subarray(end);
  }
  return grant;
}
