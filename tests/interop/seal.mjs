// Seals a credential with the `@hpke/core` library, as a web dashboard would.
// stdin: {"recipient": base64url, "aad": "…", "plaintext": "…"}; stdout: {"recipient", "enc", "ciphertext"}.
import { readFileSync } from "node:fs";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";

const input = JSON.parse(readFileSync(0, "utf8"));
const text = (value) => new TextEncoder().encode(value);
const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
const raw = Buffer.from(input.recipient, "base64url");
const recipientPublicKey = await suite.kem.deserializePublicKey(raw.buffer.slice(raw.byteOffset, raw.byteOffset + 32));
const sender = await suite.createSenderContext({ recipientPublicKey, info: text("genesis-seal-v1") });
const ciphertext = await sender.seal(text(input.plaintext), text(input.aad));
const b64 = (buffer) => Buffer.from(buffer).toString("base64url");
process.stdout.write(JSON.stringify({ recipient: input.recipient, enc: b64(sender.enc), ciphertext: b64(ciphertext) }));
