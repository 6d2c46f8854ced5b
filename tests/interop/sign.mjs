// Signs a bundle with the `jose` library, as a web dashboard would.
// stdin: {"payload": {…}, "private_key": base64url seed, "public_key": base64url, "kid": "…"}; stdout: the JWS.
import { readFileSync } from "node:fs";
import { GeneralSign, FlattenedSign, importJWK } from "jose";

const input = JSON.parse(readFileSync(0, "utf8"));
const key = await importJWK({ kty: "OKP", crv: "Ed25519", d: input.private_key, x: input.public_key }, "EdDSA");
const header = { alg: "EdDSA", kid: input.kid, typ: "genesis-bundle+json" };
const payload = new TextEncoder().encode(JSON.stringify(input.payload));
const jws =
  input.form === "flattened"
    ? await new FlattenedSign(payload).setProtectedHeader(header).sign(key)
    : await new GeneralSign(payload).addSignature(key).setProtectedHeader(header).sign();
process.stdout.write(JSON.stringify(jws));
