// A backend in another language: knows proto/blindbook/v1 and nothing else of
// Blindbook, asks a running sidecar, and checks what comes.
//
//   node client.js PLACE serving|alone
//
// PLACE is HOST:PORT or unix:PATH. `serving`: the directory is there, with the
// people of run.sh. `alone`: its server has ended.

import assert from "node:assert/strict";
import path from "node:path";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const here = path.dirname(fileURLToPath(import.meta.url));
const options = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
const { blindbook } = grpc.loadPackageDefinition(
  protoLoader.loadSync("blindbook/v1/sidecar.proto", {
    ...options,
    includeDirs: [path.join(here, "../../proto")],
  }),
);

// grpc.health.v1, as every gRPC server speaks it.
const string = { type: "string", id: 1 };
const health = grpc.loadPackageDefinition(
  protoLoader.fromJSON(
    {
      nested: {
        grpc: {
          nested: {
            health: {
              nested: {
                v1: {
                  nested: {
                    HealthCheckRequest: { fields: { service: string } },
                    HealthCheckResponse: {
                      fields: { status: { type: "Status", id: 1 } },
                      nested: {
                        Status: {
                          values: { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 },
                        },
                      },
                    },
                    Health: {
                      methods: {
                        Check: {
                          requestType: "HealthCheckRequest",
                          responseType: "HealthCheckResponse",
                        },
                        Watch: {
                          requestType: "HealthCheckRequest",
                          responseType: "HealthCheckResponse",
                          responseStream: true,
                        },
                      },
                    },
                  },
                },
              },
            },
          },
        },
      },
    },
    options,
  ),
).grpc.health.v1;

const [place, mode] = process.argv.slice(2);
assert.ok(place && ["serving", "alone"].includes(mode), "usage: client.js PLACE serving|alone");
const insecure = grpc.credentials.createInsecure();
const sidecar = new blindbook.v1.SidecarService(place, insecure);
const doctor = new health.Health(place, insecure);

// Calls a method: its answer, or its error thrown. None may hang.
const call = (stub, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    stub[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
const resolve = (request) => call(sidecar, "Resolve", request);

const people = (answer) => answer.mappings.map((found) => `${found.user}@${found.provider}`);

// The error of a call, with the reason that programs may rely on.
async function refused(request, code, reason) {
  const error = await resolve(request).then(
    () => assert.fail(`${reason}: the call must be refused`),
    (error) => error,
  );
  assert.equal(error.code, grpc.status[code], error.message);
  const [details] = error.metadata.get("grpc-status-details-bin");
  assert.ok(details.includes(reason) && details.includes("blindbook"), `${reason} in the details`);
  for (const text of [error.details, details.toString("latin1")]) {
    assert.ok(!text.includes("canary"), "a value is quoted");
  }
}

// Until the sidecar says that it serves.
function serving() {
  return new Promise((resolve, reject) => {
    const watch = doctor.Watch({ service: "" }, { deadline: Date.now() + 60_000 });
    watch.on("data", ({ status }) => status === "SERVING" && (resolve(), watch.cancel()));
    watch.on("error", reject);
    watch.on("end", () => reject(new Error("the watch ended")));
  });
}

async function found() {
  await serving();
  const service = "blindbook.v1.SidecarService";
  assert.equal((await call(doctor, "Check", { service })).status, "SERVING");

  // Hits, in any spelling, and a miss.
  for (const sii of ["+1 415 555 0100", "(415) 555-0100", "tel:+14155550100"]) {
    const answer = await resolve({ sii });
    assert.deepEqual(people(answer), ["alice@wa.example"], sii);
    assert.equal(answer.directory, "wa");
    assert.equal(answer.damaged, 0);
    assert.equal(answer.stale, false);
    assert.ok(answer.answered_at_s > 1_700_000_000);
    const [alice] = answer.mappings;
    assert.ok(alice.default && alice.ttl_s > 0 && alice.verified_until_s === 0);
  }
  assert.deepEqual(people(await resolve({ sii: "Dave@Example.COM", directory: "wa" })), [
    "dave@wa.example",
  ]);
  assert.deepEqual(people(await resolve({ sii: "nobody@example.com" })), []);
  assert.deepEqual(people(await resolve({ sii: "+14155550100", refresh: true })), [
    "alice@wa.example",
  ]);

  // Several, the preferred first; and for whom.
  const ask = async (audience) => people(await resolve({ sii: "+14155550102", audience }));
  const all = await ask("AUDIENCE_UNSPECIFIED");
  assert.equal(all[0], "carol@wa.example");
  assert.deepEqual([...all].sort(), ["carol.shop@wa.example", "carol@wa.example"]);
  assert.deepEqual(await ask("AUDIENCE_PERSONAL"), ["carol@wa.example"]);
  assert.deepEqual(await ask("AUDIENCE_BUSINESS"), ["carol.shop@wa.example"]);

  // What is refused, and why.
  await refused({ sii: "" }, "INVALID_ARGUMENT", "IDENTIFIER");
  await refused({ sii: "canary@" }, "INVALID_ARGUMENT", "IDENTIFIER");
  await refused({ sii: "+14155550100", audience: 9 }, "INVALID_ARGUMENT", "AUDIENCE");
  const unknown = { sii: "+14155550100", directory: "canary" };
  await refused(unknown, "INVALID_ARGUMENT", "DIRECTORY_UNKNOWN");

  // Many: one result each, in order.
  const siis = ["nobody@example.com", "+14155550100", "canary@", "dave@example.com", "+14155550100"];
  const { results } = await call(sidecar, "ResolveMany", { siis });
  assert.deepEqual(
    results.map((result) => result.outcome),
    ["found", "found", "refusal", "found", "found"],
  );
  assert.deepEqual(
    results.map((result) => (result.found ? people(result.found).join() : result.refusal.reason)),
    ["", "alice@wa.example", "IDENTIFIER", "dave@wa.example", "alice@wa.example"],
  );
  assert.equal(results[2].refusal.code, grpc.status.INVALID_ARGUMENT);
  assert.deepEqual((await call(sidecar, "ResolveMany", { siis: [] })).results, []);
  const many = Array(4097).fill("+14155550100");
  await assert.rejects(call(sidecar, "ResolveMany", { siis: many }), {
    code: grpc.status.INVALID_ARGUMENT,
  });
}

// The directory's server has ended: a lookup that needs it says so.
async function alone() {
  await refused({ sii: "+14155550100", refresh: true }, "UNAVAILABLE", "DIRECTORY_UNREACHABLE");
  await refused({ sii: "canary@" }, "INVALID_ARGUMENT", "IDENTIFIER");
}

await (mode === "serving" ? found() : alone());
sidecar.close();
doctor.close();
console.log(`${place}: all as it should be (${mode})`);
