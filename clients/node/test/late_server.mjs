// Waits for the server at EXPERTD_TARGET, which starts later, with the key EXPERTD_KEY; without it, none is let in.
import assert from "node:assert/strict";

import { Client } from "@expertd/client";

const target = process.env.EXPERTD_TARGET;
const client = new Client({ target, apiKey: process.env.EXPERTD_KEY, retry: { attempts: 100, maximumMs: 200 } });
assert.equal((await client.generate("Once", { maxTokens: 3 })).usage.completionTokens, 3);
client.close();
const stranger = new Client({ target });
await assert.rejects(stranger.generate("A"), { code: "UNAUTHENTICATED" });
stranger.close();
